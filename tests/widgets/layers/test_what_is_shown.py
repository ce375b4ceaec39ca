"""A run segments the pixels of its layer, whatever file they came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Image
from qtpy.QtCore import Qt

from napari_blockbuster import Job
from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import ImageSource
from napari_blockbuster.widgets.layers.of_image.layer_images import image_of
from napari_blockbuster.widgets.layers.of_image.lazy import views_of
from napari_blockbuster.widgets.layers.of_image.origins import as_shown, confirmed, zarr_location


def whole(source: ImageSource) -> np.ndarray:
    return source.read(Box((0,) * source.ndim, source.shape))


def shown(layer: Image, level: int = 0) -> np.ndarray:
    return np.asarray(layer.data[level] if layer.multiscale else layer.data)


def segmented(layer: Image, axes: str = "yx", level: int = 0) -> ImageSource:
    """Return the image that a run reads, after a check that it has the pixels of the layer."""
    source = confirmed(image_of(layer, axes, level))
    np.testing.assert_array_equal(whole(source), shown(layer, level))
    return source


@pytest.fixture
def tiff(tmp_path: Path, pixels: np.ndarray) -> Path:
    tifffile.imwrite(tmp_path / "blobs.tif", pixels, tile=(64, 64))
    return tmp_path / "blobs.tif"


@pytest.fixture
def store(tmp_path: Path, pixels: np.ndarray) -> Path:
    """An OME-Zarr of two levels, with a scale."""
    root = zarr.create_group(tmp_path / "blobs.ome.zarr", zarr_format=2)
    for level, data in enumerate((pixels, pixels[::2, ::2])):
        root.create_array(str(level), data=data, chunks=(64, 64))
    transforms = [[{"type": "scale", "scale": [0.5 * 2**k, 0.5 * 2**k]}] for k in range(2)]
    root.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"],
            "datasets": [{"path": str(k), "coordinateTransformations": t} for k, t in enumerate(transforms)],
        }
    ]
    return tmp_path / "blobs.ome.zarr"


@pytest.fixture
def open_layer(make_napari_viewer: Any) -> Any:
    """Open a file with napari's own reader."""
    viewer = make_napari_viewer()
    return lambda path: viewer.open(path, plugin="napari")[0]


def test_an_untouched_file_is_read_by_the_workers(tiff: Path, open_layer: Any) -> None:
    source = segmented(open_layer(tiff))
    assert source.local_path == tiff
    assert source.shippable


@pytest.mark.parametrize("place", [(0, 0), (199, 259), (101, 77)])
def test_one_voxel_that_was_edited_in_place_is_noticed(tiff: Path, open_layer: Any, place: tuple[int, int]) -> None:
    layer = open_layer(tiff)
    layer.data[place] += 1
    assert segmented(layer).local_path is None


def test_a_voxel_that_is_edited_after_the_image_was_opened_is_noticed(tiff: Path, open_layer: Any) -> None:
    layer = open_layer(tiff)
    source = image_of(layer, "yx")
    assert source.local_path == tiff
    layer.data[150, 200] += 1
    now = confirmed(source)
    np.testing.assert_array_equal(whole(now), layer.data)
    np.testing.assert_array_equal(whole(as_shown(source)), layer.data)


def test_nan_is_equal_to_nan(tmp_path: Path, open_layer: Any) -> None:
    pixels = np.ones((40, 50), np.float32)
    pixels[3, 4] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", pixels)
    assert segmented(open_layer(tmp_path / "nan.tif")).local_path is not None


def test_other_data_of_the_same_shape_are_what_is_segmented(tiff: Path, open_layer: Any) -> None:
    layer = open_layer(tiff)
    layer.data = layer.data[::-1]
    assert segmented(layer).local_path is None
    layer.data = da.from_array(np.array(layer.data[::-1]) * 2, chunks=64)
    assert segmented(layer).local_path is None


def test_dask_is_read_from_its_store_only_if_it_is_nothing_else(store: Path, pixels: np.ndarray) -> None:
    plain = da.from_zarr(str(store / "0"))
    array = zarr.open_array(store / "0", mode="r")
    for same in (plain, da.from_zarr(array), da.from_array(array, chunks=(100, 100)), da.from_array(array)):
        assert zarr_location(same) == store / "0"
        assert segmented(Image(same)).local_path == store / "0"
    changed = [plain * 2, plain[::-1], plain + plain, plain.T.T * 1, plain.rechunk((50, 50)), plain.astype("u2") + 0]
    changed += [
        da.concatenate([plain[:100], plain[100:][::-1]]),
        plain.map_blocks(np.negative),
        da.where(plain > 5, 0, 1),
    ]
    for other in changed:
        layer = Image(other)
        layer.metadata["blockbuster image"] = {"path": str(store), "level": 0, "channel": None}
        assert zarr_location(other) is None
        assert segmented(layer).local_path is None
    named = Image(plain, metadata={"blockbuster image": {"path": str(store), "level": 0, "channel": None}})
    assert segmented(named).local_path == store
    assert segmented(named).spacing == (0.5, 0.5)


def test_zarr_is_read_from_its_own_store_and_as_it_is_now(store: Path, tmp_path: Path, pixels: np.ndarray) -> None:
    array = zarr.open_array(store / "0", mode="r+")
    layer = Image(array)
    source = image_of(layer, "yx")
    assert source.shippable
    np.testing.assert_array_equal(whole(confirmed(source)), pixels)
    array[:64, :64] = 7
    np.testing.assert_array_equal(whole(confirmed(source)), array[:])
    # Another store of the same shape, in a layer with the path of the first.
    other = zarr.create_array(tmp_path / "other.zarr", data=pixels[::-1].copy(), chunks=(64, 64))
    layer = Image(other, metadata={"blockbuster image": {"path": str(store), "level": 0, "channel": None}})
    assert segmented(layer).local_path == tmp_path / "other.zarr"


def test_levels_are_proven_one_by_one(store: Path, pixels: np.ndarray) -> None:
    origin = {"blockbuster image": {"path": str(store), "level": 0, "channel": None}}
    levels = [da.from_zarr(str(store / name)) for name in "01"]
    layer = Image(levels, multiscale=True, metadata=origin)
    for level in (0, 1):
        source = segmented(layer, level=level)
        assert source.local_path == store
        assert source.spacing == (0.5 * 2**level,) * 2
    layer = Image([levels[0] + 1, levels[1]], multiscale=True, metadata=origin)
    assert segmented(layer, level=0).local_path is None
    assert segmented(layer, level=1).local_path == store
    layer = Image([pixels, pixels[::2, ::2] + 1], multiscale=True, metadata=origin)
    assert segmented(layer, level=0).local_path == store
    assert segmented(layer, level=1).local_path is None


def test_views_of_this_plugin_know_their_file_and_parts_of_them_do_not(store: Path) -> None:
    from napari_blockbuster.images import open_image

    views = views_of(open_image(store))
    layer = Image(views, multiscale=True)
    for level in (0, 1):
        assert segmented(layer, level=level).local_path == store
    assert segmented(Image(views[0][10:90, 20:])).local_path is None


def test_a_scale_that_was_set_on_the_layer_is_kept(store: Path, tiff: Path, open_layer: Any, tmp_path: Path) -> None:
    plain = da.from_zarr(str(store / "0"))
    origin = {"blockbuster image": {"path": str(store), "level": 0, "channel": None}}
    assert segmented(Image(plain, metadata=origin)).spacing == (0.5, 0.5)
    layer = Image(plain, metadata=origin, scale=(0.2, 0.3), units=("um", "um"))
    source = segmented(layer)
    assert (source.local_path, source.spacing) == (store, (0.2, 0.3))
    job = Job.create(source, "threshold", tmp_path / "out.ome.zarr", tile_shape=100)
    assert Job.open(job.folder).source.spacing == (0.2, 0.3)
    layer = open_layer(tiff)
    layer.scale = (2, 3)
    assert segmented(layer).spacing == (2, 3)
    assert segmented(layer).local_path == tiff


def test_a_run_and_a_preview_see_what_was_painted_into_the_layer(
    tiff: Path, open_dock: Any, until: Any, qtbot: Any
) -> None:
    viewer, widget = open_dock()
    (layer,) = viewer.open(tiff, plugin="napari")
    until(lambda: widget.image.source is not None)
    assert widget.image.source.local_path == tiff
    widget.model.choice.setCurrentText("threshold")
    widget.model.settings.set_values({"sigma": 0.0})
    widget.tiles.set_values((100, 130), (16, 16))
    layer.data[...] = 0
    layer.data[150:170, 200:220] = 40
    found: list[Any] = []
    widget.previews.tile_found.connect(found.append)
    widget.preview_tile((160, 210))
    until(lambda: bool(found))
    # The threshold is measured on the pixels of the layer, too.
    assert found[0].found.n_objects == 1
    widget.preview_tile((10, 10))
    until(lambda: len(found) == 2)
    assert found[1].found.n_objects == 0
    qtbot.mouseClick(widget.running.main, Qt.LeftButton)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    labels = np.asarray(widget.control.merged.labels)
    np.testing.assert_array_equal(labels > 0, layer.data > 0)


def test_data_that_are_replaced_are_opened_at_once(tiff: Path, open_dock: Any, until: Any) -> None:
    viewer, widget = open_dock()
    (layer,) = viewer.open(tiff, plugin="napari")
    until(lambda: widget.image.source is not None)
    layer.data = np.zeros((50, 60, 70), np.uint8)
    until(lambda: widget.image.source is not None and widget.image.source.shape == (50, 60, 70))
    assert widget.image.source.local_path is None
