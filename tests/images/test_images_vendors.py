"""Formats of microscope makers: scenes, levels, channels and sizes, read by workers from a small handle."""

from __future__ import annotations

import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from vendor_files import write_czi, write_ims, write_lif, write_n5, write_nd2

from napari_blockbuster import segment
from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import ImageReadError, ImageSource, list_scenes, open_image, source_from_description
from napari_blockbuster.output.label_image import open_labels

if TYPE_CHECKING:
    from distributed import Client

PIXELS = np.random.default_rng(0).integers(0, 60000, (2, 2, 3, 40, 50), np.uint16)
"""Axes t, c, z, y, x."""
VOXEL = (2.0, 0.5, 0.5)


def read(source: ImageSource) -> np.ndarray:
    return source.read(Box((0,) * source.ndim, source.shape))


def czi(folder: Path) -> tuple[Path, dict[str, Any]]:
    pytest.importorskip("pylibCZIrw")
    write_czi(folder / "a.czi", [PIXELS[..., :30], PIXELS], ("DAPI", "GFP"), VOXEL)
    return folder / "a.czi", {"scene": 1, "channel": "GFP"}


def nd2(folder: Path) -> tuple[Path, dict[str, Any]]:
    pytest.importorskip("nd2")
    positions = np.moveaxis(np.stack([PIXELS[::-1], PIXELS]), 2, -1)
    return write_nd2(folder / "a.nd2", positions, ("DAPI", "GFP"), VOXEL), {"scene": "well 1", "channel": "GFP"}


def lif(folder: Path) -> tuple[Path, dict[str, Any]]:
    pytest.importorskip("liffile")
    return write_lif(folder / "a.lif", {"one": PIXELS[..., :20], "two": PIXELS}, VOXEL), {"scene": "two", "channel": 1}


def ims(folder: Path) -> tuple[Path, dict[str, Any]]:
    pytest.importorskip("h5py")
    return write_ims(folder / "a.ims", [PIXELS], ("DAPI", "GFP"), VOXEL), {"channel": "GFP"}


FILES = {"czi": czi, "nd2": nd2, "lif": lif, "ims": ims}


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_scenes_channels_and_sizes(tmp_path: Path, make: Callable[[Path], tuple[Path, dict[str, Any]]]) -> None:
    path, part = make(tmp_path)
    source = open_image(path, **part)
    assert (source.axes, source.shape, source.dtype) == (tuple("tzyx"), (2, 3, 40, 50), PIXELS.dtype)
    assert source.scale[1:] == pytest.approx(VOXEL)
    assert source.units[1:] == ("micrometer",) * 3
    np.testing.assert_array_equal(read(source), PIXELS[:, 1])
    np.testing.assert_array_equal(source.read(Box((1, 1, 17, 3), (2, 3, 35, 44))), PIXELS[1:, 1, 1:, 17:35, 3:44])
    assert source.shippable
    handle = pickle.dumps(source)
    assert len(handle) < 2000
    for again in (pickle.loads(handle), source_from_description(source.describe())):
        np.testing.assert_array_equal(read(again), PIXELS[:, 1])
    with pytest.raises(ValueError, match=r"has 2 channels"):
        open_image(path, **part | {"channel": None})
    with pytest.raises(ValueError, match=r"there is no scene 7 in .*. Its scenes are 0"):
        open_image(path, **part | {"scene": 7})
    assert source.aliases(path)
    assert not source.aliases(tmp_path / "b.labels.ome.zarr")


@pytest.mark.parametrize("make", [czi, nd2, lif], ids=["czi", "nd2", "lif"])
def test_scenes_are_listed_and_chosen(tmp_path: Path, make: Callable[[Path], tuple[Path, dict[str, Any]]]) -> None:
    path, _ = make(tmp_path)
    assert len(list_scenes(path)) == 2
    if make is nd2:
        with pytest.warns(
            UserWarning, match=r"holds 2 images. Number 0 is read. Choose .*: 0 \(well 0, 2 x 3 x 2 x 40"
        ):
            assert open_image(path, channel=0).shape == (2, 3, 40, 50)
    else:
        # The second is larger: the first may be an overview.
        with pytest.raises(ValueError, match=r"holds 2 images\. Choose one with scene="):
            open_image(path, channel=0)


def test_czi_mosaics_pyramids_and_colors(tmp_path: Path) -> None:
    library = pytest.importorskip("pylibCZIrw.czi")
    colors = np.random.default_rng(1).integers(0, 255, (1, 1, 1, 30, 40, 3), np.uint8)
    path = write_czi(tmp_path / "rgb.czi", [colors], ["bright"], VOXEL)
    for channel in range(3):
        np.testing.assert_array_equal(read(open_image(path, channel=channel)), colors[0, 0, 0, ..., channel])
    assert open_image(path, channel=0).axes == ("y", "x")
    # Two tiles with a gap, far from the origin.
    plane = PIXELS[0, 0, 0]
    with library.create_czi(str(tmp_path / "mosaic.czi")) as document:
        for x in (-900, -840):
            document.write(plane[..., None], plane={"C": 0}, location=(x, 500))
    mosaic = read(open_image(tmp_path / "mosaic.czi"))
    assert mosaic.shape == (40, 110)
    np.testing.assert_array_equal(np.hstack([mosaic[:, :50], mosaic[:, 60:]]), np.hstack([plane, plane]))
    assert not mosaic[:, 50:60].any()


def test_ims_levels(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    coarse = PIXELS[..., ::2, ::2]
    path = write_ims(tmp_path / "a.ims", [PIXELS, coarse], ("DAPI", "GFP"), VOXEL)
    source = open_image(path, channel=0, level=1)
    np.testing.assert_array_equal(read(source), coarse[:, 0])
    assert source.scale[1:] == pytest.approx((2, 1, 1))
    with pytest.raises(ValueError, match="there is no level 2 in"):
        open_image(path, channel=0, level=2)
    import h5py

    with h5py.File(tmp_path / "other.ims", "w") as file:
        file["pixels"] = coarse
    with pytest.raises(ImageReadError, match="is HDF5 but not of Imaris: it has no group DataSet"):
        open_image(tmp_path / "other.ims")


def test_nd2_frames_that_were_never_acquired_are_no_blank_pixels(tmp_path: Path) -> None:
    pytest.importorskip("nd2")
    pixels = np.moveaxis(PIXELS[None], 2, -1)
    path = write_nd2(tmp_path / "stopped.nd2", pixels, ("DAPI", "GFP"), VOXEL, written=4)
    source = open_image(path, channel=0)
    np.testing.assert_array_equal(source.read(Box((1, 0, 0, 0), (2, 1, 40, 50))), PIXELS[1:, 0, :1])
    with pytest.raises(ImageReadError, match="plane 4 was never written: the acquisition was stopped before it"):
        read(source)


def test_n5(tmp_path: Path) -> None:
    volume = PIXELS[0, 0]
    container = tmp_path / "a.n5"
    for name, pixels in (("raw/s0", volume), ("raw/s1", volume[:, ::2, ::2])):
        pixel = {"dimensions": [0.5, 0.5, 2.0], "unit": "um"}
        write_n5(container / name, pixels, **({"pixelResolution": pixel} if name == "raw/s0" else {}))
    for path in (container, container / "raw", container / "raw" / "s0"):
        source = open_image(path)
        assert (source.axes, source.scale, source.units) == (tuple("zyx"), VOXEL, ("micrometer",) * 3)
        np.testing.assert_array_equal(read(source), volume)
    coarse = open_image(container, level=1)
    np.testing.assert_array_equal(read(pickle.loads(pickle.dumps(coarse))), volume[:, ::2, ::2])
    assert coarse.scale == (2.0, 1.0, 1.0)
    assert coarse.aliases(container / "labels")
    write_n5(
        container / "five",
        PIXELS,
        axes=["x", "y", "z", "c", "t"],
        resolution=[0.5, 0.5, 2, 1, 1],
        units=["um"] * 3 + ["", "s"],
    )
    five = open_image(container, scene="five", channel=1)
    np.testing.assert_array_equal(read(five), PIXELS[:, 1])
    assert five.scale == (1.0, *VOXEL)


def test_slides(tmp_path: Path) -> None:
    """OpenSlide reads this file as well as MRXS, which nothing but a scanner writes."""
    pytest.importorskip("openslide")
    from napari_blockbuster.images.formats import slide

    colors = np.random.default_rng(2).integers(0, 255, (300, 400, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        options = {"photometric": "rgb", "tile": (64, 64), "resolutionunit": "CENTIMETER", "resolution": (20000, 20000)}
        writer.write(colors, **options)
        writer.write(colors[::2, ::2], subfiletype=1, **options)
    for level, expected in enumerate((colors, colors[::2, ::2])):
        image = slide.open_file(str(tmp_path / "a.tif"), 0, level)
        np.testing.assert_array_equal(image.array[:, :, :], expected)
        np.testing.assert_array_equal(image.array[9:140, 30:170, 1], expected[9:140, 30:170, 1])
    assert image.levels == ((300, 400, 3), (150, 200, 3))
    assert [float(image.sizes[a]) for a in "yx"] == [0.5, 0.5]
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8 not a slide")
    with pytest.raises(ImageReadError, match=r"a\.mrxs cannot be read"):
        open_image(tmp_path / "a.mrxs", channel=0)


def test_anything_else_through_bioio(tmp_path: Path) -> None:
    pytest.importorskip("bioio_imageio")
    import imageio.v3 as imageio

    colors = np.random.default_rng(3).integers(0, 255, (30, 40, 3), np.uint8)
    imageio.imwrite(tmp_path / "a.png", colors)
    source = open_image(tmp_path / "a.png", channel=1)
    assert source.axes == ("y", "x")
    np.testing.assert_array_equal(read(pickle.loads(pickle.dumps(source))), colors[..., 1])
    (tmp_path / "a.doc").write_text("no image")
    with pytest.raises(ValueError, match=r"pip install 'napari-blockbuster\[bioio\]' and the plugin of bioio"):
        open_image(tmp_path / "a.doc")


@pytest.mark.parametrize(
    ("start", "name", "module", "extra"),
    [
        (b"ZISRAWFILE", "a.czi", "pylibCZIrw.czi", "czi"),
        (b"\xda\xce\xbe\x0a", "a.nd2", "nd2", "nd2"),
        (b"p\0\0\0", "a.lif", "liffile", "lif"),
        (b"\x89HDF\r\n\x1a\n", "a.ims", "h5py", "ims"),
        (b"", "a.mrxs", "openslide", "slides"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes, name: str, module: str, extra: str
) -> None:
    (tmp_path / name).write_bytes(start)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{name} is .*, which needs: pip install 'napari-blockbuster\[{extra}\]'"):
        open_image(tmp_path / name)


def test_planes_in_a_folder(tmp_path: Path) -> None:
    film = tmp_path / "film"
    film.mkdir()
    for t in range(2):
        for z in range(3):
            resolution = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
            tifffile.imwrite(film / f"day 3 t{t}_z{z + 8}.tif", PIXELS[t, 0, z], **resolution)
    (film / "notes.txt").write_text("no plane")
    source = open_image(film, axes="tzyx", spacing=(2, None, None))
    assert source.scale == (1.0, *VOXEL)
    for again in (source, pickle.loads(pickle.dumps(source)), source_from_description(source.describe())):
        np.testing.assert_array_equal(read(again), PIXELS[:, 0])
    one = open_image(film / "* t1_*.tif", axes="zyx")
    np.testing.assert_array_equal(read(source_from_description(one.describe())), PIXELS[1, 0])
    result = segment(film / "* t1_*.tif", "threshold", axes="zyx", progress=False)
    assert result.path == tmp_path / "film.labels.ome.zarr"
    (film / "day 3 t1_z9.tif").unlink()
    with pytest.raises(ImageReadError, match=r"5 files do not fill a grid of 2 x 3 planes"):
        open_image(film, axes="tzyx")
    shutil.copy(film / "day 3 t0_z8.tif", film / "overview.tif")
    with pytest.raises(ImageReadError, match="differ in more than numbers"):
        open_image(film, axes="tzyx")


def test_workers_read_the_file_themselves(tmp_path: Path, client: Client) -> None:
    path, part = czi(tmp_path)
    options: dict[str, Any] = {"tile_shape": (3, 24, 24), "halo": 4, "merge": "touch", "progress": False, **part}
    here = segment(path, "threshold", tmp_path / "here.zarr", **options)
    there = segment(path, "threshold", tmp_path / "there.zarr", client=client, **options)
    np.testing.assert_array_equal(open_labels(here.path), open_labels(there.path))
    assert here.n_objects
