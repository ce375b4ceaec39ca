"""Layers of one pair of labels: the two labels of its tiles, and the seam between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Labels, Vectors
from napari.utils.colormaps import DirectLabelColormap

from napari_blockbuster.geometry.tiles import Box, TileGrid
from napari_blockbuster.job.job import Job
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.widgets.layers.placement import place_of_part
from napari_blockbuster.widgets.layers.viewer_layers import put_away, show_labels, show_layer

__all__ = ["PairPixels", "PairView", "read_pair"]

PAIR, SEAM = "pair", "seam of a pair"
"""Kinds of the layers."""
REACH = 64
"""Voxels around the pair that are read, along each axis."""
COLORS = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0), 1: (0.34, 0.71, 0.91, 1), 2: (0.94, 0.89, 0.26, 1)}
"""Sky blue and yellow of Okabe and Ito, which differ in any kind of color vision."""


@dataclass(frozen=True)
class PairPixels:
    """Two labels around their seam.

    Attributes
    ----------
    box : Box
    labels : numpy.ndarray
        uint8: 1 for the label of the lower tile, 2 for that of the higher one.
    seam : numpy.ndarray
        Lines of the seam plane, as napari's vectors: (n, 2, axes).
    """

    box: Box
    labels: np.ndarray
    seam: np.ndarray


def read_pair(job: Job, merged: Merge, row: int) -> PairPixels:
    """Read the two labels of a pair from the staged tiles. For a thread."""
    seam, grid = merged.seams[row], job.grid
    low, high = grid[int(seam["low"])], grid[int(seam["high"])]
    middle = np.round(seam["position"]).astype(int)
    around = Box(
        tuple(int(max(m - REACH, 0)) for m in middle),
        tuple(int(min(m + REACH + 1, n)) for m, n in zip(middle, grid.shape, strict=True)),
    )
    # Time points are merged separately.
    frames = grid.separate_axes
    box = Box(low.core.start[:frames] + around.start[frames:], low.core.stop[:frames] + around.stop[frames:])
    labels = np.zeros(box.shape, np.uint8)
    for number, (tile, local) in enumerate(((low, seam["low_id"]), (high, seam["high_id"])), 1):
        part = tile.core.intersection(box)
        if part.size:
            labels[part.within(box)][job.tiles.array()[part.slices].read().result() == local] = number
    return PairPixels(box, labels, _plane(grid, low.core, box, int(seam["axis"])))


def _plane(grid: TileGrid, core: Box, box: Box, axis: int) -> np.ndarray:
    """Return the seam after a core along an axis as lines: a line per plane, or an outline if it is parallel to the view."""
    at = core.stop[axis] - 0.5
    last, ndim = grid.ndim - 1, grid.ndim
    starts, alongs = [], []
    if axis >= ndim - 2:
        other = last if axis == last - 1 else last - 1
        planes = np.ndindex(*(b - a for a, b in zip(box.start[:-2], box.stop[:-2], strict=True)))
        for plane in planes:
            start, along = np.zeros(ndim), np.zeros(ndim)
            start[: ndim - 2] = np.add(plane, box.start[:-2])
            start[axis], start[other] = at, box.start[other] - 0.5
            along[other] = box.stop[other] - box.start[other]
            starts.append(start)
            alongs.append(along)
    else:
        for z in (at - 0.5, at + 0.5):
            corners = [(box.start[-2], box.start[-1]), (box.stop[-2], box.stop[-1])]
            for edge, (y, x) in enumerate((corners[0], corners[0], corners[1], corners[1])):
                start, along = np.zeros(ndim), np.zeros(ndim)
                start[: ndim - 2] = box.start[:-2]
                start[axis], start[-2], start[-1] = z, y - 0.5, x - 0.5
                sign = 1 if edge < 2 else -1
                along[-1 - edge % 2] = sign * (box.stop[-1 - edge % 2] - box.start[-1 - edge % 2])
                starts.append(start)
                alongs.append(along)
    return np.stack([np.array(starts), np.array(alongs)], axis=1)


class PairView:
    """Layers of the selected pair."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._labels: Labels | None = None
        self._seam: Vectors | None = None

    def show(self, pixels: PairPixels, place: dict[str, Any]) -> None:
        """Show a pair in place of the previous one."""
        moved = place_of_part(place, pixels.box.start)
        if self._labels is None or self._labels not in self._viewer.layers:
            colors = DirectLabelColormap(color_dict=COLORS)
            self._labels = show_labels(
                self._viewer, PAIR, pixels.labels, "Pair", helper=True, colormap=colors, opacity=0.75, **moved
            )
            self._labels.contour = 0
        else:
            self._labels.data = pixels.labels
            self._labels.translate = moved["translate"]
        if self._seam is None or self._seam not in self._viewer.layers:
            seam = Vectors(pixels.seam, name="Seam", vector_style="line", edge_color="#cc79a7", edge_width=0.6, **place)
            self._seam = show_layer(self._viewer, SEAM, seam)
        else:
            self._seam.data = pixels.seam

    def clear(self) -> None:
        """Put the layers away."""
        put_away(self._viewer, self._labels, PAIR)
        put_away(self._viewer, self._seam, SEAM)
        self._labels = self._seam = None
