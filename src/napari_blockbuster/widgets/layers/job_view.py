"""The layers of one job in a viewer: live labels, the map of tiles, failed tiles, seams. All of it in the GUI thread."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels, Layer, Points
from qtpy.QtCore import QObject, QTimer, Signal

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.job.job import Job, TileFailed, TileStaged
from napari_blockbuster.merge.mapping import Merge
from napari_blockbuster.stage.store import TileFailure
from napari_blockbuster.widgets.controls import add_helper, remove_layer

from . import layers
from .live import LiveLabels
from .viewer_layers import fill, put_away

__all__ = ["JobView"]

LEAST_INTERVAL = 330
"""Milliseconds between two refreshes, at least."""
MOST_PREFERRED = 4096
"""Tiles in view that are asked for first: more are not staged before the camera moves again."""
REST = 5
"""How many times as long as the last refresh the viewer is left in peace."""


class JobView(QObject):
    """Shows a job's tiles as they land, and tells the job what is on the screen.

    Parameters
    ----------
    viewer : napari.Viewer
    job : Job
    live : LiveLabels
    place : dict
        Scale, translation and units of the image (`layers.placing`).
    name : str
        Of the labels layer.
    """

    live_removed = Signal()
    """The user deleted the labels layer."""
    failed_clicked = Signal(int)
    """A cross on a failed tile was clicked."""

    def __init__(
        self, viewer: Any, job: Job, live: LiveLabels, place: dict[str, Any], name: str, parent: QObject
    ) -> None:
        super().__init__(parent)
        self.viewer, self.job, self.live, self.name = viewer, job, live, name
        self.tiles: Labels = layers.show_tile_map(viewer, job.grid, place)
        self.labels: Labels | None = layers.show_live(viewer, live, place, name)
        self.failed: Points | None = None
        self.seams: Points | None = None
        self.place = place
        self._closed = False
        self._changed: set[int] = set()
        self._sent = 0
        self._everything_changed = False
        self._map_changed = False
        self._timer = QTimer(self)
        self._timer.setInterval(LEAST_INTERVAL)
        self._timer.timeout.connect(self.refresh)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.dims.events.current_step.connect(self._on_moved)
        viewer.scene.camera.events.connect(self._on_moved)
        self._moved = QTimer(self)
        self._moved.setSingleShot(True)
        self._moved.setInterval(50)
        self._moved.timeout.connect(self.follow_camera)
        self._timer.start()

    # ------------------------------------------------------------------------------------------------------- events
    def start(self, states: dict[int, str]) -> None:
        """Colour the map for tiles that are known already."""
        indices = np.fromiter(states, np.intp, len(states))
        numbers = np.fromiter((layers.STATE_NUMBER[state] for state in states.values()), np.uint8, len(states))
        self.tiles.data[np.unravel_index(indices, self.job.grid.grid_shape)] = numbers
        self.changed()

    def changed(self) -> None:
        """All that is shown may be other than before (a merge, say)."""
        self._everything_changed = True

    def landed(self, event: TileStaged | TileFailed) -> None:
        """A tile is staged (and read by `LiveLabels.land` already), or failed."""
        index = event.tile.index
        if isinstance(event, TileStaged):
            self._mark(index, "done" if event.record.n_objects else "empty")
        else:
            self._mark(index, "failed")
        self._changed.add(index)

    def _mark(self, index: int, state: str) -> None:
        self.tiles.data[self.job.grid.position(index)] = layers.STATE_NUMBER[state]

    def _mark_running(self) -> None:
        # A tile is marked when a worker gets it, and by `landed` when it is done.
        waiting = layers.STATE_NUMBER["waiting"]
        new = self.job.sent(self._sent)
        self._sent += len(new)
        for index in new:
            position = self.job.grid.position(index)
            if self.tiles.data[position] == waiting:
                self.tiles.data[position] = layers.STATE_NUMBER["running"]
                self._changed.add(index)

    def stopped(self) -> None:
        """Nothing runs any more: what was running waits again. Shows what landed since the last refresh."""
        self._sent = 0
        running = self.tiles.data == layers.STATE_NUMBER["running"]
        self.tiles.data[running] = layers.STATE_NUMBER["waiting"]
        self.changed()
        self._map_changed = False
        self.refresh()

    # ------------------------------------------------------------------------------------------------------ showing
    def refresh(self) -> None:
        """Repaint what changed, if it can be seen; the slower that is, the longer until the next time."""
        self._mark_running()
        if not (self._changed or self._everything_changed or self._map_changed):
            return
        began = time.perf_counter()
        if self._map_changed and self.tiles.visible:
            # One layer at a time: two in a row would hold the viewer twice as long.
            _repaint(self.tiles)
            self._map_changed = False
            self._rest(began)
            return
        seen = self._everything_changed or self._in_view(self._changed)
        if self.labels is not None and self.labels.visible and seen:
            _repaint(self.labels)
        self._changed.clear()
        self._everything_changed = False
        self._map_changed = self.tiles.visible
        self._rest(began)

    def _rest(self, began: float) -> None:
        took = (time.perf_counter() - began) * 1000
        self._timer.setInterval(int(max(LEAST_INTERVAL, REST * took)))

    def tiles_in_view(self) -> list[int]:
        """Tiles on the screen; those nearest to its center first, and at most `MOST_PREFERRED`."""
        box = self._box_in_view()
        return [] if box is None else self.job.grid.nearest(box, MOST_PREFERRED)

    def _in_view(self, tiles: set[int]) -> bool:
        """Whether one of some tiles is on the screen."""
        box = self._box_in_view()
        if box is None or not tiles:
            return False
        grid = self.job.grid
        positions = np.unravel_index(np.fromiter(tiles, np.intp, len(tiles)), grid.grid_shape)
        inside = [(at >= span.start) & (at < span.stop) for at, span in zip(positions, grid.spans(box), strict=True)]
        return bool(np.logical_and.reduce(inside).any())

    def _box_in_view(self) -> Box | None:
        if self.labels is None:
            return None
        grid, dims = self.job.grid, self.viewer.dims
        displayed = [axis - (dims.ndim - grid.ndim) for axis in dims.displayed]
        return layers.visible_box(self.labels, grid, dims.point, displayed)

    def follow_camera(self) -> None:
        """Run what is on the screen next."""
        self.job.prefer(self.tiles_in_view())

    def _on_moved(self, event: Any = None) -> None:
        self._moved.start()

    def show_failed(self, failures: dict[int, TileFailure]) -> None:
        """A cross on each failed tile, so that they can be found and clicked."""
        remove_layer(self.viewer, self.failed)
        self.failed = layers.failed_layer(self.job.grid, failures, self.place) if failures else None
        if self.failed is not None:
            self.failed.mouse_drag_callbacks.append(self._on_cross)
            self.viewer.add_layer(self.failed)

    def _on_cross(self, layer: Points, event: Any) -> None:
        found = layer.get_value(
            event.position, view_direction=event.view_direction, dims_displayed=event.dims_displayed, world=True
        )
        if found is not None:
            self.failed_clicked.emit(int(layer.features["tile"].iloc[found]))

    def show_seams(self, merged: Merge, rows: np.ndarray | None = None) -> None:
        """Rings on pairs of labels at the seams: those of some rows of the evidence, or the most doubtful."""
        shown = layers.seam_points(merged, rows)
        if self.seams is not None:
            # Removing a layer makes napari collect garbage, a fifth of a second of it: an empty one is hidden.
            self.seams.selected_data = set()
            self.seams.visible = bool(len(shown["data"]))
            if self.seams.visible:
                layers.replace_points(self.seams, shown)
        elif len(shown["data"]):
            self.seams = layers.seams_layer(shown, self.place)
            add_helper(self.viewer, self.seams)

    def hide_seams(self) -> None:
        """Take the rings away."""
        remove_layer(self.viewer, self.seams)
        self.seams = None

    def show_pair(self, number: int) -> str:
        """Fly to a pair of the seams layer and describe it."""
        assert self.seams is not None
        self.look_at(self.seams.data[number])
        self.seams.selected_data = {number}
        row = self.seams.features.iloc[number]
        return (
            f"{number + 1} of {len(self.seams.data)}: {row['decision']}, IoU {row['iou']:.2f}, "
            f"contact {row['contact']} voxels, tiles {row['low_tile']} and {row['high_tile']}"
        )

    def show_result(self, path: Path) -> None:
        """Put the written labels, read lazily, in the place of the live layer."""
        if self.labels is not None:
            layers.show_result(path, self.labels)

    def show_live(self) -> None:
        """Show the live labels (again): after the layer was deleted, or shows the written labels."""
        if self.labels is None:
            self.labels = layers.show_live(self.viewer, self.live, self.place, self.name)
        elif layers.RESULT in self.labels.metadata:
            fill(self.labels, layers.live_data(self.live))
            self.labels.metadata = {}
        else:
            return
        self.changed()

    def fly_to(self, index: int) -> None:
        """Show a tile in the middle of the screen."""
        self.look_at(layers.centre_of(self.job.grid[index].core))

    def look_at(self, voxel: Any) -> None:
        """Bring a voxel of the image to the middle of the screen."""
        place = layers.world_at(self.place, voxel)
        dims = self.viewer.dims
        for axis, value in enumerate(place):
            dims.set_point(axis + dims.ndim - len(place), value)
        centre = list(self.viewer.scene.camera.center)
        shown = [place[axis - (dims.ndim - len(place))] for axis in dims.displayed]
        centre[-len(shown) :] = shown
        self.viewer.scene.camera.center = tuple(centre)

    def voxel_at(self, world: Any) -> np.ndarray:
        """The voxel of the image at a place in world coordinates (not rounded)."""
        return layers.voxel_at(self.place, world)

    # ------------------------------------------------------------------------------------------------------- leaving
    def close(self, keep: bool = False) -> None:
        """Stop showing; take the layers away, except for the labels if they are to be kept."""
        self._timer.stop()
        self._moved.stop()
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.viewer.dims.events.current_step.disconnect(self._on_moved)
        self.viewer.scene.camera.events.disconnect(self._on_moved)
        for layer in (self.seams, self.failed):
            remove_layer(self.viewer, layer)
        put_away(self.viewer, self.tiles, layers.TILE_MAP)
        if not keep:
            put_away(self.viewer, self.labels, layers.LIVE)
        self.deleteLater()

    def _on_removed(self, event: Any) -> None:
        if event.value is self.labels:
            self.labels = None
            self.live_removed.emit()
        elif event.value is self.seams:
            self.seams = None
        elif event.value is self.failed:
            self.failed = None


def _repaint(layer: Layer) -> None:
    # A thumbnail or an extent of the whole would read the whole.
    layer.refresh(thumbnail=False, highlight=False, extent=False)
