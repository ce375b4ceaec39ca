"""Map of the tiles: a labels layer with a few pixels for each tile, colored by its state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.job.job import Job
from napari_blockbuster.widgets.layers.placement import scaled_at
from napari_blockbuster.widgets.layers.viewer_layers import put_away, show_labels

__all__ = ["BLENDING", "STATES", "STATE_NUMBER", "TileMap", "ends_of", "parts_of", "pixels_of", "place_of_map"]

TILE_MAP = "tile map"
"""Kind of the labels layer."""
# Colors of Okabe and Ito, safe for color blindness. They differ in brightness as well.
STATES = {
    "waiting": (0.35, 0.35, 0.35, 0.15),
    "running": (0.94, 0.89, 0.26, 0.5),
    "done": (0.0, 0.45, 0.70, 0.35),
    "empty": (0.60, 0.60, 0.60, 0.45),
    "failed": (0.84, 0.37, 0.0, 0.8),
    "skipped": (0.0, 0.0, 0.0, 0.45),
}
STATE_NUMBER = {state: number for number, state in enumerate(STATES, 1)}
FEATURES = {"index": list(STATE_NUMBER.values()), "state": list(STATE_NUMBER)}
MOST_PIXELS, MOST_PARTS = 2**22, 64
"""Most pixels of a map, and of one tile along an axis."""
BLENDING = "translucent_no_depth"
"""Of a map: in the 3D view, a map with depth would hide the labels inside it."""


class TileMap:
    """States of a job's tiles.

    Attributes
    ----------
    layer : napari.layers.Labels
    states : numpy.ndarray
        Number of the state of each tile, in the shape of the grid.
    """

    def __init__(self, viewer: Any, job: Job, place: dict[str, Any]) -> None:
        self._viewer, self._job = viewer, job
        self._n_sent = 0
        chosen = job.tiles.chosen.reshape(job.grid.grid_shape)
        self.states = np.where(chosen, STATE_NUMBER["waiting"], STATE_NUMBER["skipped"]).astype(np.uint8)
        self._parts = parts_of(job.grid)
        self._ends = ends_of(job.grid, self._parts)
        self.layer = _show(viewer, job.grid, place, self._parts, self._painted())
        viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        self._on_ndisplay()

    def start(self, states: dict[int, str]) -> None:
        """Set the states of many tiles."""
        indices = np.fromiter(states, np.intp, len(states))
        numbers = np.fromiter((STATE_NUMBER[state] for state in states.values()), np.uint8, len(states))
        self.states[np.unravel_index(indices, self._job.grid.grid_shape)] = numbers
        self._paint()

    def mark(self, index: int, state: str) -> None:
        """Set the state of one tile."""
        position, number = self._job.grid.position(index), STATE_NUMBER[state]
        self.states[position] = number
        parts = zip(position, self._parts, self._ends, strict=True)
        self.layer.data[tuple(slice(at * n, min((at + 1) * n, end)) for at, n, end in parts)] = number

    def mark_running(self) -> list[int]:
        """Mark the tiles that were sent to workers since the last call, and return those that changed."""
        new = self._job.sent(self._n_sent)
        self._n_sent += len(new)
        waiting = STATE_NUMBER["waiting"]
        changed = [index for index in new if self.states[self._job.grid.position(index)] == waiting]
        for index in changed:
            self.mark(index, "running")
        return changed

    def stopped(self) -> None:
        """Mark running tiles as waiting again."""
        self._n_sent = 0
        self.states[self.states == STATE_NUMBER["running"]] = STATE_NUMBER["waiting"]
        self._paint()

    def close(self) -> None:
        """Put the layer away."""
        self._viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)
        put_away(self._viewer, self.layer, TILE_MAP)

    def _paint(self) -> None:
        np.copyto(self.layer.data, self._painted())

    def _painted(self) -> np.ndarray:
        return pixels_of(self.states, self._parts, self._ends)

    def _on_ndisplay(self, event: Any = None) -> None:
        # In the 3D view, napari cannot look up features before the mouse entered the canvas: its status line breaks.
        self.layer.features = {} if self._viewer.dims.ndisplay == 3 else FEATURES


def parts_of(grid: TileGrid) -> tuple[int, ...]:
    """Return the number of pixels per tile along each axis: one, unless the last tile is thinner than the others.

    A map of thin last tiles must not reach beyond the image. It has as few pixels as show the thin tile up to a hundredth of
    a tile; fewer for grids of very many tiles, where the thin tile is drawn too short.
    """
    ragged = [axis for axis, (n, tile) in enumerate(zip(grid.shape, grid.tile_shape, strict=True)) if n % tile]
    if not ragged:
        return (1,) * grid.ndim
    most = int((MOST_PIXELS / math.prod(grid.grid_shape)) ** (1 / len(ragged)))
    return tuple(
        _parts(n % tile / tile, max(1, min(most, MOST_PARTS, tile))) if axis in ragged else 1
        for axis, (n, tile) in enumerate(zip(grid.shape, grid.tile_shape, strict=True))
    )


def _parts(thin: float, most: int) -> int:
    """Return into how many parts to divide a tile, so that a whole number of them is nearly as thick as the last tile."""
    missing = [thin - math.floor(thin * n + 1e-9) / n for n in range(1, most + 1)]
    good = [n for n, short in enumerate(missing, 1) if short <= 0.01]
    return good[0] if good else 1 + missing.index(min(missing))


def ends_of(grid: TileGrid, parts: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the map: the pixels that lie inside the image."""
    return tuple(
        max(1, math.floor(n * part / tile + 1e-9))
        for n, tile, part in zip(grid.shape, grid.tile_shape, parts, strict=True)
    )


def pixels_of(states: np.ndarray, parts: tuple[int, ...], ends: tuple[int, ...]) -> np.ndarray:
    """Return the pixels of a map from one state per tile. A new array."""
    painted = states
    for axis, (n, end) in enumerate(zip(parts, ends, strict=True)):
        if n > 1 or end < painted.shape[axis]:
            painted = np.repeat(painted, n, axis=axis)
            painted = painted[(slice(None),) * axis + (slice(end),)]
    return painted if painted is not states else painted.copy()


def place_of_map(grid: TileGrid, place: dict[str, Any], parts: tuple[int, ...]) -> dict[str, Any]:
    """Return scale, translation, affine and units of a map, from the place of its image."""
    pixel = np.asarray(grid.tile_shape) / parts
    return {
        "scale": place["scale"] * pixel,
        # A layer's translation is the center of its first pixel, here half a pixel of the map from the first voxel's edge.
        "translate": scaled_at(place, (pixel - 1) / 2),
        "affine": place["affine"],
        "units": place["units"],
    }


def _show(viewer: Any, grid: TileGrid, place: dict[str, Any], parts: tuple[int, ...], painted: np.ndarray) -> Labels:
    colors = {None: (0, 0, 0, 0)} | {STATE_NUMBER[state]: color for state, color in STATES.items()}
    return show_labels(
        viewer,
        TILE_MAP,
        painted,
        "Tiles",
        colormap=DirectLabelColormap(color_dict=colors),
        **place_of_map(grid, place, parts),
        opacity=0.35,
        blending=BLENDING,
    )
