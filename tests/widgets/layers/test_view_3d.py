"""Everything that the plugin draws works in napari's 3D view, also when napari starts in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from dock_actions import click, set_up
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from scipy import ndimage


def read_status(viewer: Any) -> str:
    """Compute napari's status line for each layer, as its thread does before the mouse entered the canvas."""
    texts = []
    viewer.cursor._view_direction = None
    for layer in viewer.layers:
        viewer.layers.selection.active = layer
        texts.append(str(viewer._calc_status_from_cursor()))
    return " ".join(texts)


def corners(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ends = np.concatenate([vectors[:, 0], vectors[:, 0] + vectors[:, 1]])
    return ends.min(axis=0), ends.max(axis=0)


def test_a_run_in_the_3d_view(make_napari_viewer: Any, open_dock: Any, until: Any, qtbot: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    field = ndimage.gaussian_filter(rng.standard_normal((20, 70, 60)), 2)
    volume = (np.clip(field / field.max(), 0, 1) * 4000).astype(np.uint16)
    viewer, widget = open_dock()
    viewer.dims.ndisplay = 3
    viewer.add_image(volume, name="blobs", scale=(2, 1, 1))
    until(lambda: widget.image.source is not None)
    widget.model.choice.setCurrentText("threshold")
    set_up(widget, tmp_path / "gui.ome.zarr", (20, 32, 32), (4, 4, 4))
    widget.tiles.outline.setChecked(True)
    widget.tiles.lines.setChecked(True)

    # The tile in the center of the view, and its halo, as boxes.
    tile = widget.tiles.grid[widget.tiles.drawing.target()]
    outline = viewer.layers["Tile and halo"]
    np.testing.assert_array_equal(outline.scale, (2, 1, 1))
    for part, box in zip(np.split(np.asarray(outline.data), 2), (tile.core, tile.read), strict=True):
        low, high = corners(part)
        np.testing.assert_array_equal(low, np.subtract(box.start, 0.5))
        np.testing.assert_array_equal(high, np.subtract(box.stop, 0.5))
    # It follows the camera.
    viewer.scene.camera.center = (20, 5, 5)
    until(lambda: corners(np.split(np.asarray(outline.data), 2)[0])[0].tolist() == [-0.5] * 3)
    low, high = corners(np.asarray(viewer.layers["Tile grid"].data))
    np.testing.assert_array_equal(low, [-0.5] * 3)
    np.testing.assert_array_equal(high, np.subtract(volume.shape, 0.5))

    click(qtbot, widget.running.main)
    until(lambda: "Tiles" in viewer.layers)
    read_status(viewer)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    labels = viewer.layers["blobs labels"]
    np.testing.assert_array_equal(np.asarray(labels.data), widget.control.merged.labels.compute())
    viewer.layers["Tiles"].visible = True
    assert "[No" not in read_status(viewer)
    click(qtbot, widget.merging.inspect)
    widget.inspector.tabs.pairs.filter.setCurrentText("all")
    widget.inspector.tabs.step(1)
    until(lambda: "Pair" in viewer.layers)
    read_status(viewer)

    # Nobody paints on labels that the next merge replaces.
    viewer.dims.ndisplay = 2
    said = []
    notification_manager.notification_ready.connect(lambda notification: said.append(notification.message))
    # A click on a button of napari sets the mode twice.
    for _ in range(2):
        labels.mode = "paint"
        assert labels.mode == "pan_zoom"
    assert [text.partition(".")[0] for text in said] == ["Duplicate this layer to paint on it"]
    viewer.dims.ndisplay = 3

    # A plane shows rectangles on the plane, and the states of tiles in the status line.
    viewer.dims.ndisplay = 2
    assert viewer.layers["Tile and halo"].ndim == 2
    assert viewer.layers["Tiles"].features["state"].iloc[0] == "waiting"
    viewer.dims.ndisplay = 3
    assert viewer.layers["Tile and halo"].ndim == 3
    read_status(viewer)


def test_the_tile_map_never_reaches_beyond_the_image(tmp_path: Path) -> None:
    from napari_blockbuster import Job
    from napari_blockbuster.widgets.layers.of_job.tile_map import STATE_NUMBER, TileMap
    from napari_blockbuster.widgets.layers.placement import place_of_image

    for number, (shape, tile) in enumerate(
        [((200, 260), (64, 64)), ((128, 100), (64, 50)), ((70, 301, 33), (32, 300, 64)), ((513,) * 2, (256, 512))]
    ):
        job = Job.create(np.zeros(shape, np.uint16), "threshold", tmp_path / f"{number}.ome.zarr", tile_shape=tile)
        viewer = ViewerModel()
        image = viewer.add_image(np.zeros(shape, np.uint8))
        tiles = TileMap(viewer, job, place_of_image(job.source))
        shown, whole = tiles.layer._extent_world_augmented, image._extent_world_augmented
        np.testing.assert_allclose(shown[0], whole[0], atol=1e-9)
        short = whole[1] - shown[1]
        assert (short > -1e-9).all()
        assert (short <= np.maximum(0.01 * np.minimum(tile, shape), 1.01)).all(), short
        # Each tile has its own pixels, at its place.
        tiles.start(dict.fromkeys(range(len(job.grid)), "done"))
        for each in job.grid:
            tiles.mark(each.index, "failed")
            there = np.argwhere(tiles.layer.data == STATE_NUMBER["failed"])
            if len(there):
                world = np.array([tiles.layer.data_to_world(at) for at in (there[0], there[-1])])
                assert (world >= np.subtract(each.core.start, 0.5)).all()
                assert (world <= np.subtract(each.core.stop, 0.5)).all()
            tiles.mark(each.index, "done")
        painted = tiles.layer.data.copy()
        tiles.stopped()
        np.testing.assert_array_equal(tiles.layer.data, painted)
