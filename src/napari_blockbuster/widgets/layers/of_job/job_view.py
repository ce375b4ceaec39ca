"""Layers of one job in a viewer: live labels, tile map, failed tiles, seams. Use them in the GUI thread."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels, Layer, Points
from qtpy.QtCore import QObject, QTimer, Signal

from napari_blockbuster.job.job import Job, TileFailed, TileStaged
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.stage.store import TileFailure
from napari_blockbuster.widgets.layers.of_image.layer_images import level_shapes
from napari_blockbuster.widgets.layers.placement import voxel_at
from napari_blockbuster.widgets.layers.viewer_layers import is_image

from .failed_tiles import FailedTileCrosses
from .live import LiveLabels
from .live_layer import LiveLayer
from .seam_rings import SeamRings
from .tile_map import TileMap
from .viewport import Viewport

__all__ = ["JobView"]

LEAST_INTERVAL = 330
"""Milliseconds between two refreshes, at least."""
REST = 5
"""Least interval between two refreshes, in multiples of the time that the last one took."""


@dataclass
class Changes:
    """Changes that are not painted yet."""

    tiles: set[int] = field(default_factory=set)
    everything: bool = False
    tile_map: bool = False

    def __bool__(self) -> bool:
        return bool(self.tiles) or self.everything or self.tile_map


class JobView(QObject):
    """Shows the tiles of a job as they are staged, and asks for those on the screen first.

    Parameters
    ----------
    viewer : napari.Viewer
    job : Job
    live : LiveLabels
    place : dict
        Of the image (`napari_blockbuster.widgets.layers.placement`).
    name : str
        Name of the labels layer.
    """

    live_removed = Signal()
    """The user removed the labels layer."""
    failed_clicked = Signal(int)
    """A failed tile was clicked in the viewer."""

    def __init__(
        self, viewer: Any, job: Job, live: LiveLabels, *, place: dict[str, Any], name: str, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._viewer, self._job, self.place = viewer, job, place
        self.changes = Changes()
        self._tile_map = TileMap(viewer, job, place)
        self._live_layer = LiveLayer(viewer, live, place, name)
        self._crosses = FailedTileCrosses(viewer, job.grid, place, self.failed_clicked.emit)
        self._rings = SeamRings(viewer, place)
        self._viewport = Viewport(viewer, job.grid, place)
        self.timer = QTimer(self)
        self.timer.setInterval(LEAST_INTERVAL)
        self.timer.timeout.connect(self.refresh)
        self._moved = QTimer(self)
        self._moved.setSingleShot(True)
        self._moved.setInterval(50)
        self._moved.timeout.connect(self.follow_camera)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.dims.events.current_step.connect(self._on_moved)
        viewer.scene.camera.events.connect(self._on_moved)
        self.timer.start()

    # ------------------------------------------------------------------------------------------------------- layers
    @property
    def tiles(self) -> Labels:
        """Layer with the map of tiles."""
        return self._tile_map.layer

    @property
    def labels(self) -> Labels | None:
        """Layer with the labels; None after the user removed it."""
        return self._live_layer.layer

    @property
    def live(self) -> LiveLabels:
        """Data of the live labels."""
        return self._live_layer.live

    @property
    def seams(self) -> Points | None:
        """Layer with the rings on pairs at the seams."""
        return self._rings.layer

    # ------------------------------------------------------------------------------------------------------- events
    def start(self, states: dict[int, str]) -> None:
        """Set the states of tiles in the map."""
        self._tile_map.start(states)
        self.changed()

    def changed(self) -> None:
        """Repaint everything at the next refresh, for example after a merge."""
        self.changes.everything = True

    def landed(self, event: TileStaged | TileFailed) -> None:
        """Show that a tile was staged or failed. `LiveLabels.land` has read its labels already."""
        index = event.tile.index
        if isinstance(event, TileStaged):
            self._tile_map.mark(index, "done" if event.record.n_objects else "empty")
        else:
            self._tile_map.mark(index, "failed")
        self.changes.tiles.add(index)

    def mark_running(self) -> None:
        """Show which tiles were sent to workers."""
        self.changes.tiles.update(self._tile_map.mark_running())

    def stopped(self) -> None:
        """Show that no tile runs, and everything that was staged since the last refresh."""
        self._tile_map.stopped()
        self.changed()
        self.changes.tile_map = False
        self.refresh()

    def _on_removed(self, event: Any) -> None:
        if event.value is self.labels:
            self._live_layer.layer = None
            self.live_removed.emit()
        elif event.value is self._rings.layer:
            self._rings.layer = None
        elif event.value is self._crosses.layer:
            self._crosses.layer = None

    def _on_inserted(self, event: Any) -> None:
        """Move the image of the job below its labels when it is opened after them. napari adds layers on top."""
        layer = event.value
        if not is_image(layer) or list(self._job.grid.shape) not in [
            [*shape][-self._job.grid.ndim :] for shape in level_shapes(layer)
        ]:
            return

        def move() -> None:
            layers = self._viewer.layers
            own = [layers.index(each) for each in (self.tiles, self.labels) if each is not None and each in layers]
            if own and layer in layers and layers.index(layer) > min(own):
                layers.move(layers.index(layer), min(own))

        # napari is still adding the layer.
        QTimer.singleShot(0, move)

    # ------------------------------------------------------------------------------------------------------ painting
    def refresh(self) -> None:
        """Repaint changes that are on the screen. After a slow repaint, the next one comes later."""
        self.mark_running()
        changes = self.changes
        if not changes:
            return
        began = time.perf_counter()
        if changes.tile_map and self.tiles.visible:
            # Repaint one layer at a time: two in a row would block the viewer for twice as long.
            _repaint(self.tiles)
            changes.tile_map = False
        else:
            if (
                self.labels is not None
                and self.labels.visible
                and (changes.everything or self.shows_any(changes.tiles))
            ):
                _repaint(self.labels)
            changes.tiles.clear()
            changes.everything = False
            changes.tile_map = self.tiles.visible
        took = (time.perf_counter() - began) * 1000
        self.timer.setInterval(int(max(LEAST_INTERVAL, REST * took)))

    # -------------------------------------------------------------------------------------------------------- camera
    def tiles_in_view(self) -> list[int]:
        """Return the tiles on the screen, the nearest to its center first."""
        return self._viewport.tiles(self.labels)

    def shows_any(self, tiles: set[int]) -> bool:
        """Return whether any of some tiles is on the screen."""
        return self._viewport.shows_any(tiles, self.labels)

    def follow_camera(self) -> None:
        """Run the tiles on the screen next."""
        self._job.prefer(self.tiles_in_view())

    def _on_moved(self, event: Any = None) -> None:
        self._moved.start()

    def fly_to(self, index: int) -> None:
        """Center the view on a tile."""
        self._viewport.center_on_tile(index)

    def look_at(self, voxel: Any) -> None:
        """Center the view on a voxel of the image."""
        self._viewport.center_on(voxel)

    def voxel_at(self, world: Any) -> np.ndarray:
        """Convert world coordinates to a voxel of the image, without rounding."""
        return voxel_at(self.place, world)

    # ------------------------------------------------------------------------------------------------- what is shown
    def show_failed(self, failures: dict[int, TileFailure]) -> None:
        """Show a cross on each failed tile."""
        self._crosses.show(failures)

    def show_seams(self, merged: Merge, rows: np.ndarray | None = None) -> None:
        """Show rings on pairs of labels: some rows of the evidence, or the most doubtful ones."""
        self._rings.show(merged, rows)

    def hide_seams(self) -> None:
        """Remove the rings."""
        self._rings.hide()

    def show_pair(self, number: int) -> str:
        """Center the view on a ring; returns a description of its pair."""
        voxel, text = self._rings.select(number)
        self.look_at(voxel)
        return text

    def show_result(self, path: Path) -> None:
        """Show the written labels in the layer of the live labels."""
        self._live_layer.show_result(path)

    def show_live(self) -> None:
        """Show the live labels again after the layer was removed, or while it shows the written labels."""
        if self._live_layer.show_live():
            self.changed()

    def close(self, keep: bool = False) -> None:
        """Remove the layers.

        Parameters
        ----------
        keep : bool, default False
            Leave the labels layer.
        """
        self.timer.stop()
        self._moved.stop()
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._viewer.dims.events.current_step.disconnect(self._on_moved)
        self._viewer.scene.camera.events.disconnect(self._on_moved)
        self._rings.hide()
        self._crosses.close()
        self._tile_map.close()
        if not keep:
            self._live_layer.close()
        self.deleteLater()


def _repaint(layer: Layer) -> None:
    # Thumbnail and extent would read the whole layer.
    layer.refresh(thumbnail=False, highlight=False, extent=False)
