"""Conversion to OME-Zarr: pixels, channels, sizes and pyramid; complete or not there; continued after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from command_line import mistake, numbers, run

from napari_blockbuster import Job, convert, segment
from napari_blockbuster.geometry.chunks import finest_block
from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import ImageSource, ImageWarning, open_image
from napari_blockbuster.output import conversion
from napari_blockbuster.output.conversion import mean_of_blocks
from napari_blockbuster.output.label_image import open_labels

PIXELS = np.random.default_rng(0).integers(0, 60000, (2, 3, 6, 70, 300), np.uint16)
OME: dict[str, Any] = {"axes": "TCZYX", "Channel": {"Name": ["DAPI", "", "GFP"]}}
OME |= {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (2, 0.5, 0.5), strict=True)}


def read(source: ImageSource) -> np.ndarray:
    return source.read(Box((0,) * source.ndim, source.shape))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "film.ome.tif", PIXELS, metadata=OME)
    return tmp_path / "film.ome.tif"


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_nothing_is_lost(film: Path, version: str) -> None:
    made = convert(film, progress=False, ome_zarr_version=version)
    assert made == film.with_name("film.ome.zarr")
    for channel, name in enumerate(("DAPI", "channel 1", "GFP")):
        source = open_image(made, channel=name)
        assert (source.axes, source.scale, source.dtype) == (tuple("tzyx"), (1, 2, 0.5, 0.5), PIXELS.dtype)
        assert source.units[1:] == ("micrometer",) * 3
        np.testing.assert_array_equal(read(source), PIXELS[:, channel])
    coarse = open_image(made, channel=0, level=1)
    assert (coarse.shape, coarse.scale, coarse.translation) == ((2, 6, 35, 150), (1, 2, 1, 1), (0, 0, 0.25, 0.25))
    mean = PIXELS[:, 0].reshape(2, 6, 35, 2, 150, 2).mean((3, 5))
    assert np.abs(read(coarse) - mean).max() <= 0.5
    assert [p.name for p in film.parent.iterdir() if p.name.startswith(".")] == []
    with pytest.raises(FileExistsError, match="Pass overwrite=True"):
        convert(film, progress=False)


def test_an_interrupted_conversion_continues(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Box] = []
    usual = conversion.Conversion._finest

    def counted(self: Any, box: Box) -> np.ndarray:
        if len(reads) == 4:
            raise KeyboardInterrupt
        reads.append(box)
        return usual(self, box)

    monkeypatch.setattr(conversion.Conversion, "_finest", counted)
    with pytest.raises(KeyboardInterrupt):
        convert(film, progress=False)
    target = film.with_name("film.ome.zarr")
    assert not target.exists()
    first = set(reads)
    reads.clear()
    made = convert(film, progress=False)
    # Two times and three channels: what was written before is not read again.
    assert len(first) == 4
    assert len(reads) == 2
    assert not first & set(reads)
    np.testing.assert_array_equal(read(open_image(made, channel="GFP")), PIXELS[:, 2])
    assert [p.name for p in film.parent.iterdir() if p.name.startswith(".")] == []


def test_other_pixels_never_continue_a_conversion(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Any, *args: Any) -> np.ndarray:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conversion.Conversion, "_reduced", stop)
        with pytest.raises(KeyboardInterrupt):
            convert(film, progress=False)
    tifffile.imwrite(film, PIXELS[::-1], metadata=OME)
    np.testing.assert_array_equal(read(open_image(convert(film, progress=False), channel=0)), PIXELS[::-1, 0])


def test_an_image_is_never_its_own_output(film: Path) -> None:
    made = convert(film, progress=False)
    with pytest.raises(ValueError, match="has the name of the result itself: say where"):
        convert(made, progress=False)
    for output in (made, made.parent, film):
        with pytest.raises(ValueError, match="is the image itself, or holds it"):
            convert(made if output != film else film, output, overwrite=True, progress=False)
    np.testing.assert_array_equal(read(open_image(made, channel=0)), PIXELS[:, 0])


def test_labels_of_both_are_the_same(tmp_path: Path) -> None:
    pixels = np.full((90, 110), 100, np.uint16)
    pixels[20:40, 20:60] = pixels[60:80, 30:50] = 900
    tifffile.imwrite(tmp_path / "a.tif", pixels, resolution=(20000, 20000), resolutionunit="CENTIMETER")
    made = convert(tmp_path / "a.tif", tmp_path / "b.ome.zarr", progress=False)
    options: dict[str, Any] = {"tile_shape": 40, "halo": 8, "progress": False}
    one, two = (segment(path, "threshold", **options) for path in (tmp_path / "a.tif", made))
    np.testing.assert_array_equal(open_labels(one.path), open_labels(two.path))
    assert one.n_objects == 2


@pytest.mark.parametrize(
    ("shape", "chunks", "quantum", "expected"),
    [
        ((2000, 2048, 2048), (1, 2048, 2048), 64, [8, 2048, 2048]),
        ((500, 500, 500), (64, 64, 64), 64, [512, 256, 256]),
        ((40_000, 50_000), (40_000, 50_000), 256, [20_224, 12_544]),
        ((3, 100, 100), (3, 100, 100), 64, [3, 128, 128]),
        ((1999, 1999), (1999, 1), 256, [2048, 2048]),
    ],
)
def test_blocks_hold_whole_chunks_in_bounded_memory(
    shape: tuple[int, ...], chunks: tuple[int, ...], quantum: int, expected: list[int]
) -> None:
    found = finest_block(shape, chunks, quantum)
    assert np.prod(found) <= 2**28
    assert found == expected


def test_means() -> None:
    pixels = np.array([[1, 2, 9], [3, 5, 4], [7, 7, 1]], np.uint8)
    np.testing.assert_array_equal(mean_of_blocks(pixels, (2, 2)), [[3, 6], [7, 1]])
    np.testing.assert_array_equal(mean_of_blocks(pixels > 8, (2, 1)), [[0, 0, 1], [0, 0, 0]])
    huge = np.array([2**31 - 1, 2**31 - 3], np.int32)
    assert mean_of_blocks(huge, (2,)) == 2**31 - 2


def test_a_run_says_when_reading_is_dear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_BLOCKBUSTER_CACHE_BYTES", "100000")
    pixels = np.random.default_rng(0).integers(0, 255, (400, 400), np.uint8)
    tifffile.imwrite(tmp_path / "one strip.tif", pixels, compression="zlib", rowsperstrip=400)
    options: dict[str, Any] = {"tile_shape": 40, "halo": 5}
    told = r"a tile decodes 64 times the pixels that it needs \(160.0 kB for 2.5 kB\), because its chunks are 400 x 400"
    with pytest.warns(ImageWarning, match=rf"{told} .* napari-blockbuster convert '.*/one strip.tif'"):
        Job.create(tmp_path / "one strip.tif", "threshold", tmp_path / "o.zarr", **options)
    made = convert(tmp_path / "one strip.tif", progress=False)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error", ImageWarning)
        Job.create(made, "threshold", tmp_path / "p.zarr", **options)
        # Not compressed: a box is read without the rest of its chunk, or the chunk fits into the cache.
        tifffile.imwrite(tmp_path / "tiles.tif", pixels, compression="zlib", tile=(64, 64))
        Job.create(tmp_path / "tiles.tif", "threshold", tmp_path / "q.zarr", **options)


def test_command_line(film: Path) -> None:
    done = run("convert", film, "--spacing", 3, 0.5, 0.5, "--quiet")
    assert numbers(done.stdout)["output"] == str(film.with_name("film.ome.zarr"))
    assert open_image(film.with_name("film.ome.zarr"), channel=0).scale[1] == 3
    assert "exists. Pass overwrite=True (--overwrite)" in mistake("convert", film, "--quiet")
