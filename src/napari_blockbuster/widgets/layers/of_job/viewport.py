"""Viewport: the part of an image on the screen, and moving the camera."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from napari.layers import Layer

from napari_blockbuster.geometry.tiles import Box, TileGrid
from napari_blockbuster.widgets.layers.placement import center_of, world_at

__all__ = ["Viewport", "center_view"]

MOST_PREFERRED = 4096
"""Tiles in view that are reported at most. No more are staged before the camera moves again."""


class Viewport:
    """View of a viewer on the image of a job.

    Parameters
    ----------
    viewer : napari.Viewer
    grid : TileGrid
    place : dict
        Of the image (`napari_blockbuster.widgets.layers.placement`).
    """

    def __init__(self, viewer: Any, grid: TileGrid, place: dict[str, Any]) -> None:
        self._viewer, self._grid, self._place = viewer, grid, place

    def tiles(self, layer: Layer | None) -> list[int]:
        """Return the tiles on the screen, the nearest to its center first.

        Parameters
        ----------
        layer : napari.layers.Layer or None
            A layer on the image. napari computes the part on the screen for each layer.
        """
        return [] if layer is None else self._grid.nearest(self._box(layer), MOST_PREFERRED)

    def shows_any(self, tiles: Collection[int], layer: Layer | None) -> bool:
        """Return whether any of some tiles is on the screen."""
        if layer is None or not tiles:
            return False
        grid = self._grid
        positions = np.unravel_index(np.fromiter(tiles, np.intp, len(tiles)), grid.grid_shape)
        spans = grid.spans(self._box(layer))
        inside = [(at >= span.start) & (at < span.stop) for at, span in zip(positions, spans, strict=True)]
        return bool(np.logical_and.reduce(inside).any())

    def _box(self, layer: Layer) -> Box:
        dims = self._viewer.dims
        displayed = [axis - (dims.ndim - self._grid.ndim) for axis in dims.displayed]
        return _visible_box(layer, self._grid, dims.point, displayed)

    def center_on_tile(self, index: int) -> None:
        """Center the view on a tile."""
        self.center_on(center_of(self._grid[index].core))

    def center_on(self, voxel: Any) -> None:
        """Center the view on a voxel of the image."""
        center_view(self._viewer, self._place, voxel)


def center_view(viewer: Any, place: dict[str, Any], voxel: Any) -> None:
    """Center a viewer on a voxel of an image at a place."""
    world = world_at(place, voxel)
    dims, camera = viewer.dims, viewer.scene.camera
    first = dims.ndim - len(world)
    axes = [axis + first for axis in range(len(world))]
    # Each change of the point slices all layers anew, also along axes that are on the screen.
    if set(axes) - set(dims.displayed):
        dims.set_point(axes, list(world))
    center = list(camera.center)
    shown = [world[axis - first] for axis in dims.displayed]
    center[-len(shown) :] = shown
    camera.center = tuple(center)


def _visible_box(layer: Layer, grid: TileGrid, step: Sequence[float], displayed: Sequence[int]) -> Box:
    """Return the part of an image on the screen, in voxels of the full resolution.

    `step` is the viewer's point in world coordinates, `displayed` are the axes on the screen.
    """
    corners = np.asarray(layer.corner_pixels, float)
    if layer.multiscale:
        corners = corners * np.asarray(layer.downsample_factors[layer.data_level])
    place = layer.world_to_data(step)
    start, stop = [], []
    for axis, n in enumerate(grid.shape):
        low, high = (corners[0][axis], corners[1][axis] + 1) if axis in displayed else (place[axis], place[axis] + 1)
        start.append(int(np.clip(low, 0, n - 1)))
        stop.append(int(np.clip(np.ceil(high), start[-1] + 1, n)))
    return Box(tuple(start), tuple(stop))
