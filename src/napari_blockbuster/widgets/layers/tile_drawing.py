"""Drawing of tiles on the image: the outline of the tile in view with its halo, and the grid of all tiles."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Vectors
from qtpy.QtCore import QObject, QTimer

from napari_blockbuster.geometry.tiles import Box, TileGrid

from .placement import center_of, in_plane, is_tilted, voxel_at
from .viewer_layers import put_away, show_layer

__all__ = ["TileDrawing"]

MOST_LINES = 2000
OUTLINE, LINES = "tile outline", "tile grid"
"""Kinds of the layers."""
CORE_COLOR, HALO_COLOR = "#f0e442", "#56b4e9"


class TileDrawing(QObject):
    """Draws tiles: as rectangles on a plane, as boxes in the 3D view. The outline follows the camera.

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
        self._outline: Vectors | None = None
        self._outlined: tuple[Any, ...] = ()
        """Place and number of axes of the outline that is drawn."""
        self._lines: Vectors | None = None
        self._follows = self._shows_lines = False
        self._moved = QTimer(self)
        self._moved.setSingleShot(True)
        self._moved.setInterval(100)
        self._moved.timeout.connect(lambda: self.draw_outline(self._follows))
        viewer.scene.camera.events.center.connect(self._on_moved)
        viewer.dims.events.current_step.connect(self._on_moved)
        viewer.dims.events.ndisplay.connect(self._on_ndisplay)

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
            put_away(self._viewer, self._outline, OUTLINE)
            self._outline = None
            return
        tile, axes = self.grid[target], self._axes()
        before = _before(tile.core, self.place, axes)
        core, read = (_edges(box, before, axes) for box in (tile.core, tile.read))
        outlined = (self.place["scale"].tobytes(), self.place["translate"].tobytes(), axes, len(before))
        if self._outline in self._viewer.layers and self._outlined == outlined:
            self._outline.data = np.concatenate([core, read])
            return
        put_away(self._viewer, self._outline, OUTLINE)
        self._outline = show_layer(
            self._viewer,
            OUTLINE,
            Vectors(
                np.concatenate([core, read]),
                name="Tile and halo",
                vector_style="line",
                edge_color=[CORE_COLOR] * len(core) + [HALO_COLOR] * len(read),
                edge_width=_line_width(self.grid),
                **_place(self.place, len(before) + axes),
            ),
        )
        self._outlined = outlined

    def draw_lines(self, on: bool) -> str:
        """Draw the borders of all tiles, or remove them; returns the problem if they cannot be drawn."""
        self._shows_lines = on
        put_away(self._viewer, self._lines, LINES)
        self._lines = None
        if not on or self.grid is None or self.grid.ndim < 2:
            return ""
        axes = self._axes()
        marks = [
            [*range(0, n, tile), n]
            for n, tile in zip(self.grid.shape[-axes:], self.grid.tile_shape[-axes:], strict=True)
        ]
        n_lines = sum(len(_product(marks, but=axis)) for axis in range(axes))
        if n_lines > MOST_LINES:
            return f"The grid has {n_lines:,} lines, too many to draw. Choose larger tiles to see it."
        before = _before(self.grid[self.target() or 0].core, self.place, axes)
        self._lines = show_layer(
            self._viewer,
            LINES,
            Vectors(
                _straight(marks, before),
                name="Tile grid",
                vector_style="line",
                edge_color=CORE_COLOR,
                edge_width=_line_width(self.grid),
                opacity=0.6,
                **_place(self.place, len(before) + axes),
            ),
        )
        return ""

    def _axes(self) -> int:
        """Return how many of the last axes the drawing has: 3 for a volume in the 3D view, otherwise 2."""
        assert self.grid is not None
        return 3 if self._viewer.dims.ndisplay == 3 and self.grid.ndim > 2 else 2

    def _on_moved(self, event: Any = None) -> None:
        if self._follows:
            self._moved.start()

    def _on_ndisplay(self, event: Any = None) -> None:
        self.draw_outline(self._follows)
        self.draw_lines(self._shows_lines)


def _before(box: Box, place: dict[str, Any], axes: int) -> np.ndarray:
    """Return the coordinates before the last `axes`: none on planes, so that napari shows the drawing on each of them.

    Planes of a tilted image lie each elsewhere, and boxes have a time point.
    """
    return np.floor(center_of(box))[:-axes] if axes > 2 or is_tilted(place) else np.zeros(0)


def _place(place: dict[str, Any], ndim: int) -> dict[str, Any]:
    return place if ndim == len(place["scale"]) else in_plane(place)


def _edges(box: Box, before: np.ndarray, axes: int) -> np.ndarray:
    """Return the edges of a box along its last axes, as napari's vectors."""
    return _straight(list(zip(box.start[-axes:], box.stop[-axes:], strict=True)), before)


def _straight(marks: Sequence[Sequence[int]], before: np.ndarray) -> np.ndarray:
    """Return lines through all marks, each parallel to an axis and from its first mark to its last.

    Lines run between voxels, half a voxel before the center of the first one.
    """
    found = []
    for axis, along in enumerate(marks):
        length = np.zeros(len(before) + len(marks))
        length[len(before) + axis] = along[-1] - along[0]
        for place in _product(marks, but=axis):
            start = np.insert(np.asarray(place, float), axis, along[0]) - 0.5
            found.append([np.concatenate([before, start]), length])
    return np.array(found)


def _product(marks: Sequence[Sequence[int]], but: int) -> list[tuple[int, ...]]:
    return list(itertools.product(*(each for axis, each in enumerate(marks) if axis != but)))


def _line_width(grid: TileGrid) -> float:
    return max(1.0, min(grid.tile_shape[-2:]) / 100)
