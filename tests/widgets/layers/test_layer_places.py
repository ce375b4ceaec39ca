"""Labels lie on their layer, however it was moved in napari, on the screen and on disk."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from napari.layers import Image, Layer
from qtpy.QtCore import Qt

from napari_blockbuster import Job
from napari_blockbuster.images import open_image
from napari_blockbuster.output.label_image import labels_info
from napari_blockbuster.widgets.layers.of_image.layer_images import image_of
from napari_blockbuster.widgets.layers.placement import place_of_image, place_of_layer, voxel_at, world_at
from napari_blockbuster.widgets.menu.reader import job_reader

TURNS: dict[str, dict[str, Any]] = {
    "moved": {"scale": (0.5, 0.25), "translate": (1e5, -200.0)},
    "rotated": {"scale": (0.5, 0.25), "translate": (100.0, 200.0), "rotate": 30},
    "sheared": {"scale": (0.5, 0.25), "shear": [0.3]},
    "flipped": {"scale": (0.5, -0.25), "translate": (3.0, 60.0)},
    "affine": {"scale": (0.5, 0.5), "affine": [[0.9, -0.3, 5], [0.3, 0.9, 7], [0, 0, 1]]},
    "all": {"scale": (0.5, 0.25), "rotate": -70, "shear": [-0.2], "affine": [[1, 0.2, 5], [0, 2, 7], [0, 0, 1]]},
}


def corners(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(itertools.product(*((0, n - 1) for n in shape)))


def assert_lies_on(layer: Layer, image: Layer, shape: tuple[int, ...], at: Any = 0, step: Any = 1) -> None:
    """The voxels of a layer lie on those of an image; `at` and `step` say where a voxel of it lies in the image."""
    for corner in corners(shape):
        there = np.asarray(at) + np.multiply(step, corner)
        np.testing.assert_allclose(layer.data_to_world(corner), image.data_to_world(there), rtol=0, atol=1e-6)


@pytest.mark.parametrize("turn", TURNS)
def test_the_place_of_a_layer_is_whole(turn: str, pixels: np.ndarray, tmp_path: Path) -> None:
    layer = Image(pixels, units=("um", "um"), **TURNS[turn])
    place = place_of_layer(layer, 2)
    assert_lies_on(Image(pixels, **place), layer, pixels.shape)
    np.testing.assert_allclose(world_at(place, (7, 9)), layer.data_to_world((7, 9)), atol=1e-6)
    np.testing.assert_allclose(voxel_at(place, layer.data_to_world((7, 9))), (7, 9), atol=1e-6)
    source = image_of(layer, "yx")
    assert_lies_on(Image(pixels, **place_of_image(source)), layer, pixels.shape)
    # The description of a job is JSON.
    assert json.loads(json.dumps(source.describe()))["translation"] == list(layer.data_to_world((0, 0)))


@pytest.mark.parametrize("turn", ["moved", "rotated", "all"])
def test_a_file_on_disk_keeps_the_place_of_its_layer(turn: str, pixels: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    layer = Image(pixels, metadata={"blockbuster image": {"path": str(tmp_path / "a.tif")}}, **TURNS[turn])
    source = image_of(layer, "yx")
    assert source.local_path == tmp_path / "a.tif"
    job = Job.create(source, "threshold", tmp_path / "labels.ome.zarr", tile_shape=100)
    again = Job.open(job.folder)
    assert_lies_on(Image(pixels, **place_of_image(again.source)), layer, pixels.shape)
    for _ in again.stage():
        pass
    path = again.write(again.merge()).path
    assert (labels_info(path)["affine"] is None) == (turn == "moved")
    (data, options, kind), *_ = job_reader(str(path))(str(path))
    assert kind == "labels"
    assert_lies_on(Image(np.asarray(data[0] if options.pop("multiscale") else data), **options), layer, pixels.shape)


def test_sizes_that_say_the_same_as_the_file_change_nothing(pixels: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.ome.tif", pixels, metadata={"axes": "YX", "PhysicalSizeX": 0.3, "PhysicalSizeY": 0.3}
    )
    origin = {"blockbuster image": {"path": str(tmp_path / "a.ome.tif")}}
    plain = open_image(tmp_path / "a.ome.tif")
    for options in ({}, {"scale": (0.3, 0.3), "units": ("um", "um")}, {"scale": (300, 300), "units": ("nm", "nm")}):
        source = image_of(Image(pixels, metadata=origin, **options), "yx")
        np.testing.assert_allclose(source.spacing, 0.3)
        assert source.identity() == plain.identity()


def test_units_of_a_layer_are_brought_to_one(pixels: np.ndarray) -> None:
    stack = np.stack([pixels] * 4)
    layer = Image(stack, scale=(900, 0.3, 0.3), units=("nm", "um", "um"), translate=(5000, 1, 2))
    source = image_of(layer, "zyx")
    np.testing.assert_allclose(source.spacing, (0.9, 0.3, 0.3))
    np.testing.assert_allclose(source.translation, (5, 1, 2))
    assert source.units == ("micrometer",) * 3
    assert source.layout.spacing == pytest.approx((0.9, 0.3, 0.3))


def test_a_layer_that_turns_its_channels_is_refused(pixels: np.ndarray) -> None:
    matrix = np.eye(4)
    matrix[0, 1] = 0.5
    with pytest.raises(ValueError, match="along its channels"):
        image_of(Image(np.stack([pixels] * 2), affine=matrix), "cyx", channel=0)


def test_the_scene_that_a_reader_chose_is_found(pixels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for scene in (pixels[::-1], pixels):
            writer.write(scene, metadata={"axes": "YX"})
    source = image_of(Image(pixels, metadata={"blockbuster image": {"path": str(path)}}), "yx")
    assert (source.local_path, source.layout.scene) == (path, 1)


ON_THE_SCREEN: dict[str, dict[str, Any]] = {
    "rotated": {"scale": (0.5, 0.5), "rotate": 25, "translate": (40, 80)},
    "sheared and flipped": {"scale": (0.5, -0.5), "shear": [0.3], "translate": (40, 80)},
}


@pytest.mark.parametrize("turn", ON_THE_SCREEN)
def test_everything_lies_on_a_turned_layer(
    turn: str, open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path
) -> None:
    """A multiscale dask layer without a file: screen, tile map, outline, grid, preview, seams, disk."""
    lazy = da.from_array(pixels * 1, chunks=64)
    place = {**ON_THE_SCREEN[turn], "units": ("um", "um")}
    viewer, widget = open_dock([lazy, lazy[::2, ::2]], show=True, multiscale=True, name="turned", **place)
    image = viewer.layers["turned"]
    assert "rotated" in widget.image.note.plain
    widget.model.choice.setCurrentText("threshold")
    widget.model.settings.set_values({"sigma": 0.0, "threshold": 1000.0})
    widget.tiles.set_values((100, 130), (16, 16))
    widget.running.output.setText(str(tmp_path / "labels.ome.zarr"))
    widget.tiles.outline.setChecked(True)
    widget.tiles.lines.setChecked(True)
    tile = widget.tiles.grid[widget.tiles.drawing.tile_at(image.data_to_world((150, 200)))]
    assert tile.core.start == (100, 130)
    for name in ("Tile and halo", "Tile grid"):
        assert_lies_on(viewer.layers[name], image, pixels.shape)
    found: list[Any] = []
    failed: list[str] = []
    widget.previews.tile_found.connect(found.append)
    widget.previews.failed.connect(failed.append)
    widget.running.cluster_fields.workers.setValue(1)
    widget.preview_tile(image.data_to_world((150, 200)))
    until(lambda: bool(found or failed), 200)
    assert not failed
    assert_lies_on(viewer.layers["Preview"], image, (100, 130), at=(100, 130))
    qtbot.mouseClick(widget.running.main, Qt.LeftButton)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None, 200)
    labels = np.asarray(widget.control.merged.labels)
    np.testing.assert_array_equal(labels > 0, pixels > 1000)
    assert_lies_on(viewer.layers["turned labels"], image, pixels.shape)
    assert_lies_on(viewer.layers["Tiles"], image, (2, 2), at=(49.5, 64.5), step=(100, 130))
    # The camera finds tiles where they are on the screen.
    viewer.camera.zoom = 40
    widget.control.view.fly_to(3)
    until(lambda: widget.control.view.tiles_in_view() == [3])
    widget.control.view.show_seams(widget.control.merged)
    if widget.control.view.seams is not None:
        assert_lies_on(widget.control.view.seams, image, pixels.shape)
    qtbot.mouseClick(widget.merging.write, Qt.LeftButton)
    until(lambda: widget.control.state == "written")
    (opened,) = viewer.open(tmp_path / "labels.ome.zarr", plugin="napari-blockbuster")
    assert_lies_on(opened, image, pixels.shape)
