"""Polygons as a part of a region of interest: rows of voxels, which are exact and cheap for any number of vertices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from napari_blockbuster.geometry.boxes import Box
from napari_blockbuster.geometry.tiles import TileGrid

from .coverage import Coverage, core_edges

__all__ = ["PolygonPart", "Ring"]

Ring = tuple[tuple[float, float], ...]
"""Vertices (y, x). Voxel ``k`` spans ``k`` to ``k + 1``."""
DECIMALS = 3
"""Vertices are rounded to a thousandth of a voxel, so that their JSON stays small."""


class Runs(NamedTuple):
    """Stretches of voxels in the plane of the last two axes, disjoint and sorted by row and start. int64 each."""

    row: np.ndarray
    start: np.ndarray
    stop: np.ndarray


@dataclass(frozen=True)
class PolygonPart:
    """The voxels whose centers lie in any of some polygons, in all planes of an image.

    Attributes
    ----------
    polygons : tuple of tuple of Ring
        The rings of each polygon: the first one is its outline, the others are its holes.
    plane : tuple of int
        Shape of the image along its last two axes.
    """

    kind: ClassVar[str] = "polygons"
    polygons: tuple[tuple[Ring, ...], ...]
    plane: tuple[int, int]

    @classmethod
    def of(cls, polygons: Sequence[Sequence[Any]], plane: Sequence[int]) -> Self:
        """Build from rings as arrays or sequences of (y, x)."""
        rounded = tuple(
            tuple(
                tuple((float(y), float(x)) for y, x in np.round(np.asarray(ring, np.float64), DECIMALS))
                for ring in polygon
            )
            for polygon in polygons
        )
        return cls(rounded, (int(plane[0]), int(plane[1])))

    def __getstate__(self) -> dict[str, Any]:
        return {"polygons": self.polygons, "plane": self.plane}

    @property
    def is_empty(self) -> bool:
        return not any(len(ring) >= 3 for polygon in self.polygons for ring in polygon)

    @property
    def is_near(self) -> bool:
        """Whether the box around a polygon meets the image, even if the center of no voxel is inside."""
        outlines = (np.array(polygon[0]) for polygon in self.polygons if polygon and polygon[0])
        return any(((o.max(0) > 0) & (o.min(0) < self.plane)).all() for o in outlines)

    @cached_property
    def runs(self) -> Runs:
        """The voxels inside, clipped to the image."""
        return _disjoint(_filled(self.polygons, self.plane))

    def coverage(self, grid: TileGrid) -> np.ndarray:
        """Return the `Coverage` of each tile: int8, shape of the grid."""
        (tile_y, tile_x), (n_y, n_x) = grid.tile_shape[-2:], grid.grid_shape[-2:]
        runs = self.runs
        first, last = runs.start // tile_x, (runs.stop - 1) // tile_x
        pieces = last - first + 1
        column = np.repeat(first, pieces) + _counted(pieces)
        length = np.minimum(np.repeat(runs.stop, pieces), (column + 1) * tile_x) - np.maximum(
            np.repeat(runs.start, pieces), column * tile_x
        )
        place = np.repeat(runs.row // tile_y, pieces) * n_x + column
        inside = np.bincount(place, weights=length, minlength=n_y * n_x).reshape(n_y, n_x)
        heights, widths = (stops - starts for starts, stops in (core_edges(grid, -2), core_edges(grid, -1)))
        area = heights[:, None] * widths[None, :]
        found = np.where(inside == area, Coverage.ALL, np.where(inside > 0, Coverage.SOME, Coverage.NONE))
        return np.broadcast_to(found.astype(np.int8), grid.grid_shape)

    def paint(self, box: Box, out: np.ndarray) -> None:
        """Set the voxels of a box that lie in this part."""
        (y0, x0), (y1, x1) = box.start[-2:], box.stop[-2:]
        runs = self.runs
        rows = slice(*np.searchsorted(runs.row, (y0, y1)))
        start, stop = (np.clip(ends[rows], x0, x1) - x0 for ends in (runs.start, runs.stop))
        steps = np.zeros((y1 - y0, x1 - x0 + 1), np.int8)
        # Runs are disjoint, but one may begin where another ends.
        np.add.at(steps, (runs.row[rows] - y0, start), 1)
        np.add.at(steps, (runs.row[rows] - y0, stop), -1)
        out |= np.cumsum(steps[:, :-1], axis=1, dtype=np.int8) > 0

    def holds(self, voxels: np.ndarray) -> np.ndarray:
        """Return whether each voxel lies in this part. `voxels` is an integer array of shape (n, axes)."""
        runs, width = self.runs, self.plane[1]
        y, x = voxels[:, -2], voxels[:, -1]
        if not len(runs.row):
            return np.zeros(len(voxels), bool)
        place = np.searchsorted(runs.row * width + runs.start, y * width + x, side="right") - 1
        found = np.maximum(place, 0)
        inside: np.ndarray = (place >= 0) & (runs.row[found] == y) & (x >= runs.start[found]) & (x < runs.stop[found])
        return inside

    def bounds(self, shape: tuple[int, ...]) -> Box:
        """Return a box that holds every voxel of this part within an image."""
        runs = self.runs
        if not len(runs.row):
            return Box((0,) * len(shape), (0,) * len(shape))
        low = int(runs.row[0]), int(runs.start.min())
        high = int(runs.row[-1]) + 1, int(runs.stop.max())
        return Box((0,) * (len(shape) - 2) + low, (*shape[:-2], *high))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "plane": list(self.plane), "polygons": [list(map(list, p)) for p in self.polygons]}

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> Self:
        return cls.of(said["polygons"], said["plane"])


def _filled(polygons: tuple[tuple[Ring, ...], ...], plane: tuple[int, int]) -> Runs:
    """The runs of each polygon, by the even-odd rule. Runs of two polygons may overlap."""
    of, a, b = _edges(polygons)
    # A row counts for an edge if its center lies between the two ends; the upper end belongs to the next edge.
    low, high = np.minimum(a[:, 0], b[:, 0]), np.maximum(a[:, 0], b[:, 0])
    first = np.clip(np.ceil(low - 0.5), 0, plane[0]).astype(np.int64)
    rows = np.maximum(np.clip(np.ceil(high - 0.5), 0, plane[0]).astype(np.int64) - first, 0)
    edge = np.repeat(np.arange(len(a)), rows)
    row = first[edge] + _counted(rows)
    rise = np.where(b[:, 0] == a[:, 0], 1.0, b[:, 0] - a[:, 0])
    crossing = a[edge, 1] + (row + 0.5 - a[edge, 0]) * ((b[:, 1] - a[:, 1]) / rise)[edge]
    order = np.lexsort((crossing, row, of[edge]))
    column = np.clip(np.ceil(crossing[order] - 0.5), 0, plane[1]).astype(np.int64)
    # Every polygon crosses a row an even number of times.
    start, stop, row = column[::2], column[1::2], row[order][::2]
    some = stop > start
    return Runs(row[some], start[some], stop[some])


def _edges(polygons: tuple[tuple[Ring, ...], ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The polygon, the start (y, x) and the end of each edge."""
    of, starts, ends = [np.zeros(0, np.int64)], [np.zeros((0, 2))], [np.zeros((0, 2))]
    for number, polygon in enumerate(polygons):
        for ring in polygon:
            vertices = np.asarray(ring, np.float64).reshape(-1, 2)
            if len(vertices) >= 3:
                of.append(np.full(len(vertices), number))
                starts.append(vertices)
                ends.append(np.roll(vertices, -1, axis=0))
    return np.concatenate(of), np.concatenate(starts), np.concatenate(ends)


def _disjoint(runs: Runs) -> Runs:
    """Merge runs that overlap or meet."""
    order = np.lexsort((runs.start, runs.row))
    row, start, stop = (each[order] for each in runs)
    if not len(row):
        return Runs(row, start, stop)
    width = int(stop.max()) + 1
    # Stops of earlier rows are always smaller in this numbering.
    reach = np.maximum.accumulate(row * width + stop)
    begins = np.ones(len(row), bool)
    begins[1:] = row[1:] * width + start[1:] > reach[:-1]
    begins[1:] |= row[1:] != row[:-1]
    ends = np.append(np.flatnonzero(begins)[1:], len(row)) - 1
    return Runs(row[begins], start[begins], reach[ends] - row[begins] * width)


def _counted(lengths: np.ndarray) -> np.ndarray:
    """0, 1, ... for each length, one after the other."""
    before = np.cumsum(lengths) - lengths
    counted: np.ndarray = np.arange(int(lengths.sum())) - np.repeat(before, lengths)
    return counted
