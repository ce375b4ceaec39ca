"""Overlay of the tiles that a run would segment, before there is a run; tiles are chosen on it with the mouse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.widgets.layers.of_job.tile_map import (
    BLENDING,
    STATES,
    ends_of,
    parts_of,
    pixels_of,
    place_of_map,
)

from .placement import voxel_at
from .viewer_layers import put_away, show_labels

__all__ = ["TileChoice", "TileOverlay"]

OVERLAY = "tiles to segment"
"""Kind of the labels layer."""
CHOSEN, SKIPPED, EMPTY = 1, 2, 3
COLORS = {CHOSEN: (0.0, 0.62, 0.45, 0.35), SKIPPED: STATES["skipped"], EMPTY: STATES["empty"]}


class TileOverlay:
    """Shows which tiles are segmented, which are skipped, and which of these are empty.

    Attributes
    ----------
    layer : napari.layers.Labels or None
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._grid: TileGrid | None = None
        self.layer: Labels | None = None

    def show(self, grid: TileGrid, place: dict[str, Any], chosen: np.ndarray, empty: np.ndarray | None = None) -> None:
        """Show the tiles of a grid.

        Parameters
        ----------
        grid : TileGrid
        place : dict
            Of the image.
        chosen, empty : numpy.ndarray
            bool, one entry per tile.
        """
        states = np.where(chosen, CHOSEN, SKIPPED).astype(np.uint8)
        if empty is not None:
            states[empty] = EMPTY
        parts = parts_of(grid)
        painted = pixels_of(states.reshape(grid.grid_shape), parts, ends_of(grid, parts))
        place_of_layer = place_of_map(grid, place, parts)
        shown = self.layer is not None and self.layer in self._viewer.layers
        if shown and self._grid == grid and np.array_equal(self.layer.translate, place_of_layer["translate"]):
            np.copyto(self.layer.data, painted)
            self.layer.refresh(thumbnail=False, highlight=False, extent=False)
            return
        self.hide()
        active = self._viewer.layers.selection.active
        self.layer = show_labels(
            self._viewer,
            OVERLAY,
            painted,
            "Tiles to segment",
            helper=True,
            colormap=DirectLabelColormap(color_dict={None: (0, 0, 0, 0), **COLORS}),
            opacity=0.6,
            blending=BLENDING,
            **place_of_layer,
        )
        self._viewer.layers.selection.active = active
        self._grid = grid

    def hide(self) -> None:
        """Put the layer away."""
        put_away(self._viewer, self.layer, OVERLAY)
        self.layer = None


class TileChoice:
    """Chooses tiles with the mouse while it is on: a click toggles a tile, a drag with Shift chooses or drops many.

    Parameters
    ----------
    viewer : napari.Viewer
    changed : callable
        Called when tiles were chosen or dropped.

    Attributes
    ----------
    picked : set of int
        The chosen tiles.
    """

    def __init__(self, viewer: Any, changed: Callable[[], None]) -> None:
        self._viewer, self._changed = viewer, changed
        self.picked: set[int] = set()
        self._drops = False
        self.grid: TileGrid | None = None
        self.place: dict[str, Any] = {}

    def turn(self, on: bool) -> None:
        """Start or stop choosing."""
        callbacks = self._viewer.mouse_drag_callbacks
        if on and self._dragged not in callbacks:
            callbacks.append(self._dragged)
        elif not on and self._dragged in callbacks:
            callbacks.remove(self._dragged)

    def _toggle(self, tile: int, first: bool) -> None:
        """Choose a tile, or drop it if the first tile of a click or drag was chosen."""
        if first:
            self._drops = tile in self.picked
        self.picked = self.picked - {tile} if self._drops else self.picked | {tile}
        self._changed()

    def _dragged(self, viewer: Any, event: Any) -> Any:
        first = self._tile(event.position)
        start, moved = np.asarray(event.pos), False
        paints = "Shift" in event.modifiers
        if paints and first is not None:
            # The camera must not move with a drag that chooses.
            event.handled = True
            self._toggle(first, True)
        yield
        last = first
        while event.type == "mouse_move":
            moved |= bool(np.abs(np.asarray(event.pos) - start).max() >= 4)
            here = self._tile(event.position)
            if paints and here is not None and here != last:
                event.handled = True
                self._toggle(here, False)
                last = here
            yield
        if not paints and not moved and first is not None:
            self._toggle(first, True)

    def _tile(self, world: Any) -> int | None:
        """The tile at world coordinates; None outside of the image."""
        if self.grid is None:
            return None
        voxel = np.round(voxel_at(self.place, world))
        if not ((voxel >= 0) & (voxel < self.grid.shape)).all():
            return None
        return self.grid.tile_at(voxel).index
