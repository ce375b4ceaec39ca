"""Layers of one pair of labels: the two labels of its tiles, and the seam between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Labels, Vectors
from napari.utils.colormaps import DirectLabelColormap

from napari_blockbuster.geometry.tiles import Box, TileGrid
from napari_blockbuster.job.job import Job
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.widgets.layers.placement import place_of_part
from napari_blockbuster.widgets.layers.viewer_layers import put_away, show_labels, show_layer

__all__ = ["PairPixels", "PairView", "read_far_pair", "read_label", "read_pair"]

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
        Lines of the seam plane, as napari's vectors: (n, 2, axes). None for labels that do not meet at a seam.
    middle : numpy.ndarray
        Voxel of the image to look at.
    """

    box: Box
    labels: np.ndarray
    seam: np.ndarray
    middle: np.ndarray


def read_pair(job: Job, merged: Merge, row: int) -> PairPixels:
    """Read the two labels of a pair around their seam, from the staged tiles. For a thread."""
    seam, grid = merged.seams[row], job.grid
    labels = (int(seam["low"]), int(seam["low_id"])), (int(seam["high"]), int(seam["high_id"]))
    box = _around(grid, np.asarray(seam["position"]), labels[0][0])
    return PairPixels(
        box, _read(job, labels, box), _plane(grid, grid[labels[0][0]].core, box, int(seam["axis"])), seam["position"]
    )


def read_far_pair(job: Job, pair: PairOfLabels) -> PairPixels:
    """Read two labels that do not meet at a seam: both, if they are near each other. For a thread."""
    centers = [_voxel_of(job, *label) for label in pair]
    near = np.abs(centers[0] - centers[1]).max() <= REACH
    middle = np.mean(centers, axis=0) if near else centers[0]
    box = _around(job.grid, middle, pair[0][0])
    return PairPixels(box, _read(job, pair, box), np.zeros((0, 2, job.grid.ndim)), middle)


def read_label(job: Job, tile: int, label: int, voxel: np.ndarray) -> PairPixels:
    """Read one label around a voxel. For a thread."""
    box = _around(job.grid, voxel, tile)
    return PairPixels(box, _read(job, [(tile, label)], box), np.zeros((0, 2, job.grid.ndim)), voxel)


def _around(grid: TileGrid, place: np.ndarray, tile: int) -> Box:
    middle, frames, core = np.round(place).astype(int), grid.separate_axes, grid[tile].core
    start = tuple(int(max(m - REACH, 0)) for m in middle)
    stop = tuple(int(min(m + REACH + 1, n)) for m, n in zip(middle, grid.shape, strict=True))
    # Time points are merged separately.
    return Box(core.start[:frames] + start[frames:], core.stop[:frames] + stop[frames:])


def _read(job: Job, labels: Sequence[tuple[int, int]], box: Box) -> np.ndarray:
    """Return which voxels of a box have which label: 1 for the first, 2 for the second."""
    found = np.zeros(box.shape, np.uint8)
    for number, (tile, label) in enumerate(labels, 1):
        part = job.grid[tile].core.intersection(box)
        if part.size:
            found[part.within(box)][job.tiles.array()[part.slices].read().result() == label] = number
    return found


def _voxel_of(job: Job, tile: int, label: int) -> np.ndarray:
    """Return the voxel of a label that is nearest to its center."""
    core = job.grid[tile].core
    found = np.argwhere(job.tiles.array()[core.slices].read().result() == label)
    if not len(found):
        raise ValueError(f"Tile {tile} has no voxel of label {label}.")
    nearest = found[np.argmin(((found - found.mean(axis=0)) ** 2).sum(axis=1))]
    return np.asarray(nearest + core.start)


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
