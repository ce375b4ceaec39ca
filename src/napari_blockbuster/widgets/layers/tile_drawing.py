"""Drawing of tiles on the image: the outline of the tile in view with its halo, and the grid of all tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Shapes, Vectors
from qtpy.QtCore import QObject, QTimer

from napari_blockbuster.geometry.tiles import Box, TileGrid

from .placement import center_of, in_plane, is_tilted, voxel_at
from .viewer_layers import add_helper, remove_layer

__all__ = ["TileDrawing"]

MOST_LINES = 2000


class TileDrawing(QObject):
    """Draws tiles. The outline follows the camera.

    Attributes
    ----------
    grid : TileGrid or None
    place : dict
        Of the image (`napari_blockbuster.widgets.layers.placement`).
    """

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.grid: TileGrid | None = None
        self.place: dict[str, Any] = {}
        self._outline: Shapes | None = None
        self._outline_place: dict[str, Any] = {}
        self._lines: Vectors | None = None
        self._follows = False
        self._moved = QTimer(self)
        self._moved.setSingleShot(True)
        self._moved.setInterval(100)
        self._moved.timeout.connect(lambda: self.draw_outline(self._follows))
        viewer.scene.camera.events.center.connect(self._on_moved)
        viewer.dims.events.current_step.connect(self._on_moved)

    def target(self) -> int | None:
        """Return the tile in the center of the view."""
        if self.grid is None:
            return None
        dims = self._viewer.dims
        place = np.array(dims.point, float)
        shown = list(dims.displayed)
        place[shown] = np.asarray(self._viewer.scene.camera.center)[-len(shown) :]
        return self.tile_at(place)

    def tile_at(self, world: Any) -> int:
        """Return the tile at world coordinates; outside the image, the nearest one."""
        assert self.grid is not None
        return self.grid.tile_at(np.round(voxel_at(self.place, world))).index

    def draw_outline(self, on: bool) -> None:
        """Draw the tile in the center of the view and its halo, or remove them."""
        self._follows = on
        target = self.target() if on else None
        if self.grid is None or target is None or self.grid.ndim < 2:
            remove_layer(self._viewer, self._outline)
            self._outline = None
            return
        tile = self.grid[target]
        before = _before_plane(tile.core, self.place)
        boxes = [_rectangle(box, before) for box in (tile.core, tile.read)]
        if self._outline in self._viewer.layers and self._outline_place is self.place:
            self._outline.data = boxes
            return
        remove_layer(self._viewer, self._outline)
        self._outline, self._outline_place = _outline(boxes, self.grid, self.place), self.place
        add_helper(self._viewer, self._outline)

    def draw_lines(self, on: bool) -> str:
        """Draw the borders of all tiles, or remove them; returns the problem if they cannot be drawn."""
        remove_layer(self._viewer, self._lines)
        self._lines = None
        if not on or self.grid is None or self.grid.ndim < 2:
            return ""
        n_lines = sum(self.grid.grid_shape[-2:]) + 2
        if n_lines > MOST_LINES:
            return f"The grid has {n_lines:,} lines, too many to draw. Choose larger tiles to see it."
        before = _before_plane(self.grid[self.target() or 0].core, self.place)
        self._lines = _grid_lines(self.grid, self.place, before)
        add_helper(self._viewer, self._lines)
        return ""

    def _on_moved(self, event: Any = None) -> None:
        if self._follows:
            self._moved.start()


def _before_plane(box: Box, place: dict[str, Any]) -> np.ndarray:
    """Return the coordinates before the last two: none, unless the image is tilted, because then each plane lies elsewhere."""
    return np.floor(center_of(box))[:-2] if is_tilted(place) else np.zeros(0)


def _outline(boxes: list[np.ndarray], grid: TileGrid, place: dict[str, Any]) -> Shapes:
    return Shapes(
        boxes,
        shape_type="rectangle",
        name="Tile and halo",
        edge_color=["#f0e442", "#56b4e9"],
        face_color="transparent",
        edge_width=_line_width(grid),
        **(place if is_tilted(place) else in_plane(place)),
    )


def _grid_lines(grid: TileGrid, place: dict[str, Any], before: np.ndarray) -> Vectors:
    rows, columns = grid.shape[-2:]
    lines = []
    for axis, (size, step) in enumerate(zip(grid.shape[-2:], grid.tile_shape[-2:], strict=True)):
        for at in [*range(0, size, step), size]:
            start, along = [-0.5, -0.5], [0.0, 0.0]
            start[axis], along[1 - axis] = at - 0.5, (columns, rows)[axis]
            lines.append([[*before, *start], [*np.zeros(len(before)), *along]])
    return Vectors(
        np.array(lines, float),
        name="Tile grid",
        vector_style="line",
        edge_color="#f0e442",
        edge_width=_line_width(grid),
        opacity=0.6,
        **(place if is_tilted(place) else in_plane(place)),
    )


def _line_width(grid: TileGrid) -> float:
    return max(1.0, min(grid.tile_shape[-2:]) / 100)


def _rectangle(box: Box, before: np.ndarray) -> np.ndarray:
    (top, left), (bottom, right) = box.start[-2:], box.stop[-2:]
    # Outlines run between voxels, half a voxel before the center of the first one.
    corners = np.array([[top, left], [top, right], [bottom, right], [bottom, left]], float) - 0.5
    return np.hstack([np.tile(before, (4, 1)), corners])
