"""Map of the tiles: a labels layer with one pixel for each tile, colored by its state."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.job.job import Job

from .placement import scaled_at
from .viewer_layers import put_away, show_labels

__all__ = ["STATES", "STATE_NUMBER", "TileMap"]

TILE_MAP = "tile map"
"""Kind of the labels layer."""
# Colors of Okabe and Ito, safe for color blindness. They differ in brightness as well.
STATES = {
    "waiting": (0.35, 0.35, 0.35, 0.15),
    "running": (0.94, 0.89, 0.26, 0.5),
    "done": (0.0, 0.45, 0.70, 0.35),
    "empty": (0.60, 0.60, 0.60, 0.45),
    "failed": (0.84, 0.37, 0.0, 0.8),
}
STATE_NUMBER = {state: number for number, state in enumerate(STATES, 1)}


class TileMap:
    """States of a job's tiles.

    Attributes
    ----------
    layer : napari.layers.Labels
    """

    def __init__(self, viewer: Any, job: Job, place: dict[str, Any]) -> None:
        self._viewer, self._job = viewer, job
        self._n_sent = 0
        self.layer = _show(viewer, job.grid, place)

    def start(self, states: dict[int, str]) -> None:
        """Set the states of many tiles."""
        indices = np.fromiter(states, np.intp, len(states))
        numbers = np.fromiter((STATE_NUMBER[state] for state in states.values()), np.uint8, len(states))
        self.layer.data[np.unravel_index(indices, self._job.grid.grid_shape)] = numbers

    def mark(self, index: int, state: str) -> None:
        """Set the state of one tile."""
        self.layer.data[self._job.grid.position(index)] = STATE_NUMBER[state]

    def mark_running(self) -> list[int]:
        """Mark the tiles that were sent to workers since the last call, and return those that changed."""
        new = self._job.sent(self._n_sent)
        self._n_sent += len(new)
        waiting = STATE_NUMBER["waiting"]
        changed = [index for index in new if self.layer.data[self._job.grid.position(index)] == waiting]
        for index in changed:
            self.mark(index, "running")
        return changed

    def stopped(self) -> None:
        """Mark running tiles as waiting again."""
        self._n_sent = 0
        self.layer.data[self.layer.data == STATE_NUMBER["running"]] = STATE_NUMBER["waiting"]

    def close(self) -> None:
        """Put the layer away."""
        put_away(self._viewer, self.layer, TILE_MAP)


def _show(viewer: Any, grid: TileGrid, place: dict[str, Any]) -> Labels:
    colors = {None: (0, 0, 0, 0)} | {STATE_NUMBER[state]: color for state, color in STATES.items()}
    tile = np.asarray(grid.tile_shape)
    return show_labels(
        viewer,
        TILE_MAP,
        np.full(grid.grid_shape, STATE_NUMBER["waiting"], np.uint8),
        "Tiles",
        colormap=DirectLabelColormap(color_dict=colors),
        scale=place["scale"] * tile,
        # A layer's translation is the center of its first pixel, here half a tile from the first voxel's center.
        translate=scaled_at(place, (tile - 1) / 2),
        affine=place["affine"],
        units=place["units"],
        features={"index": list(STATE_NUMBER.values()), "state": list(STATE_NUMBER)},
        opacity=0.35,
    )
