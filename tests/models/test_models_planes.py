"""A stack of a single plane is a 2D image for every model; the networks' own tests have theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_blockbuster import Job, segment
from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import open_image
from napari_blockbuster.job.preview import preview_tile
from napari_blockbuster.job.steps.second_try import SecondTry
from napari_blockbuster.models import get_model
from napari_blockbuster.models.planes import prepared_on, suggested_for


@pytest.fixture
def flat(blobs: np.ndarray) -> np.ndarray:
    return blobs.max(axis=0)


@pytest.fixture
def slide(flat: np.ndarray, tmp_path: Path) -> Path:
    """One plane in five axes, with the z of bioformats2raw: 1 where x and y are 2."""
    root = zarr.create_group(tmp_path / "slide.ome.zarr", zarr_format=2)
    root.create_array("0", data=flat[None, None, None], chunks=(1, 1, 1, 32, 32))
    axes = [{"name": n, "type": {"t": "time", "c": "channel"}.get(n, "space")} for n in "tczyx"]
    scale = [{"type": "scale", "scale": [1, 1, 1, 2, 2]}]
    root.attrs["multiscales"] = [
        {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    ]
    return tmp_path / "slide.ome.zarr"


@pytest.mark.parametrize("name", ["voronoi-otsu", "dog-watershed", "distance-watershed", "threshold"])
def test_one_plane_gives_the_labels_of_the_2d_image(name: str, flat: np.ndarray, slide: Path, tmp_path: Path) -> None:
    model = get_model(name)
    options = {"progress": False, "tile_shape": 40, "halo": 12}
    expected = np.asarray(segment(flat, model, tmp_path / "two.zarr", **options).labels)
    options |= {"tile_shape": (1, 40, 40), "halo": (0, 12, 12)}
    found = segment(slide, model, tmp_path / "five.zarr", **options).labels
    assert found.shape == (1, 1, *flat.shape)
    np.testing.assert_array_equal(np.asarray(found)[0, 0], expected)
    source = open_image(slide)
    assert prepared_on(model, source).spacing == (1, 1)
    assert suggested_for(model, source).halo == (0, *suggested_for(model, open_image(flat)).halo)


def test_numbers_for_the_axis_of_one_plane_may_be_left_out(slide: Path, tmp_path: Path) -> None:
    job = Job.create(slide, "threshold", tmp_path / "out.zarr", tile_shape=(40, 30), halo=(12, 10))
    assert job.grid.tile_shape[-3:] == (1, 40, 30)
    assert job.grid.halo[-3:] == (0, 12, 10)
    for wrong in ((40, 30, 20, 10), (40.5, 30), "64"):
        with pytest.raises(ValueError, match="numbers"):
            Job.create(slide, "threshold", tmp_path / "other.zarr", tile_shape=wrong)  # type: ignore[arg-type]


def test_a_function_gets_two_axes_and_then_the_channels(flat: np.ndarray, slide: Path, tmp_path: Path) -> None:
    def seen(tile: np.ndarray) -> np.ndarray:
        assert tile.ndim == 2, tile.shape
        return (tile > 900).astype(int)

    result = segment(slide, seen, tmp_path / "out.zarr", progress=False)
    np.testing.assert_array_equal(np.asarray(result.labels)[0, 0] > 0, flat > 900)

    def colors(tile: np.ndarray) -> np.ndarray:
        assert tile.ndim == 3, tile.shape
        assert tile.shape[-1] == 2, tile.shape
        return tile[..., 1] > 900

    stack = np.stack([flat * 0, flat])[:, None]
    result = segment(stack, colors, tmp_path / "two.zarr", axes="czyx", channel=(0, 1), progress=False)
    assert result.labels.shape == (1, *flat.shape)
    np.testing.assert_array_equal(np.asarray(result.labels)[0] > 0, flat > 900)


def test_previews_and_second_tries_see_two_axes(flat: np.ndarray, slide: Path, tmp_path: Path) -> None:
    source = open_image(slide)
    model = get_model("threshold", threshold=900.0, sigma=0.0)
    grid = TileGrid(source.shape, (1, 1, 40, 40), (0, 0, 8, 8), separate_axes=1)
    found = preview_tile(source, prepared_on(model, source), grid, 0)
    np.testing.assert_array_equal(found.core[0, 0] > 0, flat[:40, :40] > 900)
    job = Job.create(slide, model, tmp_path / "out.zarr", tile_shape=(1, 40, 40), halo=(0, 8, 8))
    for _ in job.stage():
        pass
    again = SecondTry(job)
    assert [record.index for record in again.stage([1], get_model("threshold", threshold=500.0, sigma=0.0))] == [1]


def test_spacing_of_three_numbers_fits_one_plane_and_old_jobs_keep_theirs(
    flat: np.ndarray, slide: Path, tmp_path: Path
) -> None:
    model = get_model("threshold", threshold=900.0, spacing=(3.0, 1.0, 1.0))
    source = open_image(slide)
    assert prepared_on(model, source).spacing == (1.0, 1.0)
    # Earlier versions prepared models for all three axes.
    grid = TileGrid(source.shape, (1, 1, 40, 40), (0, 0, 8, 8), separate_axes=1)
    old = preview_tile(source, model, grid, 0)
    assert old.core.shape == (1, 1, 40, 40)
    assert old.n_objects
