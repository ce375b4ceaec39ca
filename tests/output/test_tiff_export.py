"""Merged labels as TIFF: the same voxels and sizes in another program's reader, whatever the shape, and nothing half done."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from command_line import mistake, run
from scipy import ndimage

from napari_blockbuster import segment
from napari_blockbuster.images import open_image
from napari_blockbuster.output import tiff_export
from napari_blockbuster.output.label_image import labels_info, open_labels
from napari_blockbuster.output.tiff_export import export_tiff


def identity(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.int32)


def result_of(folder: Path, shape: tuple[int, ...], axes: str, spacing: tuple[float, ...], n: int = 9) -> Path:
    """Merged labels of random blocks."""
    rng = np.random.default_rng(len(shape))
    labels = ndimage.zoom(
        rng.integers(0, n, [max(1, k // 20) for k in shape]), [k / max(1, k // 20) for k in shape], order=0
    )
    labels = np.resize(labels, shape).astype(np.uint16)
    image = folder / "image.ome.tif"
    sizes = {f"PhysicalSize{a.upper()}": s for a, s in zip(axes[-len(spacing) :], spacing, strict=True)}
    tifffile.imwrite(image, labels, metadata={"axes": axes.upper(), **sizes}, photometric="minisblack")
    tile = [n if n < 40 else 300 for n in shape[-len(spacing) :]]
    return segment(image, identity, folder / "l.ome.zarr", tile_shape=tile, halo=0, merge="touch", progress=False).path


@pytest.mark.parametrize(
    ("shape", "axes", "spacing"),
    [
        ((1300, 700), "yx", (0.5, 0.25)),
        ((6, 530, 40), "zyx", (2.0, 0.5, 0.5)),
        ((3, 4, 70, 90), "tzyx", (2.0, 1.0, 1.0)),
    ],
)
@pytest.mark.parametrize("suffix", [".ome.tif", ".tif"])
def test_the_file_holds_the_labels_and_their_sizes(
    tmp_path: Path, shape: tuple[int, ...], axes: str, spacing: tuple[float, ...], suffix: str
) -> None:
    path = result_of(tmp_path, shape, axes, spacing)
    labels = open_labels(path).compute()
    n_levels = sum(level[:-2] == shape[:-2] for level in labels_info(path)["shapes"])
    done: list[tuple[int, int]] = []
    made = export_tiff(path, tmp_path / f"out{suffix}", progress=lambda *at: done.append(at))
    np.testing.assert_array_equal(tifffile.imread(made), labels)
    assert done[-1][0] == done[-1][1] == len(done)
    with tifffile.TiffFile(made) as file:
        assert file.pages[0].dtype == np.uint16
        assert file.is_ome == (suffix == ".ome.tif")
        assert file.series[0].axes == axes.upper()
        assert len(file.series[0].levels) == (1 if suffix == ".tif" else n_levels)
        x, y = (file.pages[0].tags[f"{axis}Resolution"].value for axis in "XY")
        np.testing.assert_allclose((x[0] / x[1], y[0] / y[1]), (1e4 / spacing[-1], 1e4 / spacing[-2]), rtol=1e-6)
    if suffix == ".ome.tif":
        # This package reads the sizes back.
        np.testing.assert_allclose(open_image(made).spacing, spacing)
    table = "l.ome.zarr.table.parquet"
    assert {p.name for p in tmp_path.iterdir()} == {"image.ome.tif", "l.ome.zarr", "l.ome.zarr.job", table, made.name}


def test_nothing_is_overwritten_and_an_interrupted_export_leaves_nothing(tmp_path: Path) -> None:
    path = result_of(tmp_path, (600, 300), "yx", (0.5, 0.5))
    target = tmp_path / "out.ome.tif"

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_tiff(path, target, progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "image.ome.tif",
        "l.ome.zarr",
        "l.ome.zarr.job",
        "l.ome.zarr.table.parquet",
    ]
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export_tiff(path, target)
    assert target.read_bytes() == b"mine"
    # A file that appears meanwhile is kept as well.
    target.unlink()
    with pytest.raises(FileExistsError):
        export_tiff(path, target, progress=lambda done, total: target.write_bytes(b"mine"))
    assert target.read_bytes() == b"mine"
    assert export_tiff(path, target, overwrite=True) == target
    with pytest.raises(ValueError, match="is the image that was segmented"):
        export_tiff(path, tmp_path / "image.ome.tif", overwrite=True)
    with pytest.raises(ValueError, match=r"ends with \.ome\.tif"):
        export_tiff(path, tmp_path / "out.png")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        export_tiff(path, tmp_path / "nowhere" / "out.tif")
    assert "exists" in mistake("export", path, "-o", target)
    assert "out.ome.tif" in run("export", path, "-o", target, "--overwrite").stdout
    assert os.path.exists(target)


def test_memory_does_not_grow_with_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = result_of(tmp_path, (8, 1024, 1024), "zyx", (1.0, 1.0, 1.0))
    monkeypatch.setattr(tiff_export, "CLASSIC_LIMIT", 2**20)
    tracemalloc.start()
    made = export_tiff(path, tmp_path / "out.ome.tif")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24e6, f"{peak / 1e6:.0f} MB for an image of {8 * 4} MB"
    with tifffile.TiffFile(made) as file:
        assert file.is_bigtiff
