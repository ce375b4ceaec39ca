"""Compare adjacent planes of merged labels: the planes at seams, and planes in the middle of tiles for comparison."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from napari_blockbuster.stage.store import StageStore

from .merged_table import MergedTable

__all__ = ["AxisPlanes", "PlaneCounts", "PlaneSampler"]

SMALL = 0.2
"""Share of a typical cross-section. Smaller ones are tips and rims, which appear and disappear within a voxel."""

_Planes = tuple[np.ndarray, np.ndarray]
"""Merged ids of two adjacent planes."""


class PlaneCounts(NamedTuple):
    """Sums over pairs of adjacent planes.

    Attributes
    ----------
    sections, ends : int
        Cross-sections, and how many of them have no counterpart in the other plane.
    touching, changed : int
        Voxels that are labeled in both planes, and how many of them belong to different objects.
    """

    sections: int = 0
    ends: int = 0
    touching: int = 0
    changed: int = 0


class AxisPlanes(NamedTuple):
    """The planes across one axis: counts at seams and inside tiles, the number of faces, and areas of cross-sections."""

    at_seams: PlaneCounts
    inside: PlaneCounts
    n_faces: int
    areas: np.ndarray


@dataclass(frozen=True)
class PlaneSampler:
    """Read a random sample of planes.

    Attributes
    ----------
    table : MergedTable
    store : StageStore
    staged : numpy.ndarray
        bool, for each tile.
    most : int
        Largest number of faces, and of tiles, that are read per axis.
    rng : numpy.random.Generator
    """

    table: MergedTable
    store: StageStore
    staged: np.ndarray
    most: int
    rng: np.random.Generator

    def sample(self, axis: int) -> AxisPlanes:
        """Read and compare planes across one axis."""
        grid = self.store.grid
        index = np.arange(len(grid)).reshape(grid.grid_shape)
        low = index.take(range(grid.grid_shape[axis] - 1), axis).ravel()
        high = index.take(range(1, grid.grid_shape[axis]), axis).ravel()
        faces = self._some(np.flatnonzero(self.staged[low] & self.staged[high]))
        tiles = self._some(np.unique(np.concatenate([low[faces], high[faces]])))
        with ThreadPoolExecutor(4) as pool:
            inside = [p for p in pool.map(lambda tile: self._inside(axis, int(tile)), tiles) if p is not None]
            areas = np.concatenate([np.zeros(0), *(_areas(plane) for plane, _ in inside)])
            floor = SMALL * float(np.median(areas)) if len(areas) else 0.0
            seams = pool.map(lambda face: self._at_seam(axis, int(low[face]), int(high[face])), faces)
            at_seams = _sum(_compare(a, b, floor) for a, b in seams)
        return AxisPlanes(at_seams, _sum(_compare(a, b, floor) for a, b in inside), len(faces), areas)

    def _some(self, items: np.ndarray) -> np.ndarray:
        return np.sort(self.rng.permutation(items)[: self.most])

    def _inside(self, axis: int, tile: int) -> _Planes | None:
        """Two planes in the middle of a tile, or None if the tile is too thin."""
        core = self.store.grid[tile].core
        middle = (core.start[axis] + core.stop[axis]) // 2
        if core.shape[axis] < 4:
            return None
        index = list(core.slices)
        index[axis] = slice(middle - 1, middle + 1)
        both = self.table.merged.table(tile)[self.store.labels[tuple(index)].read().result()]
        return both.take(0, axis), both.take(1, axis)

    def _at_seam(self, axis: int, low: int, high: int) -> _Planes:
        """The last plane of one tile and the first plane of the next."""
        depth = self.store.grid.depth(axis)
        planes = []
        for tile, side, place in ((low, "low", max(depth, 1) - 1), (high, "high", depth)):
            band = self.store.read_band(tile, axis, side)
            planes.append(self.table.merged.table(tile)[band.take(place, axis)])
        return planes[0], planes[1]


def _areas(plane: np.ndarray) -> np.ndarray:
    return np.unique(plane[plane > 0], return_counts=True)[1].astype(np.float64)


def _compare(a: np.ndarray, b: np.ndarray, floor: float) -> PlaneCounts:
    """Compare two planes. Cross-sections below `floor` voxels do not count."""
    sections = ends = 0
    for one, other in ((a, b), (b, a)):
        ids, area = np.unique(one[one > 0], return_counts=True)
        ids = ids[area >= floor]
        sections += len(ids)
        ends += int((~np.isin(ids, other)).sum())
    both = (a > 0) & (b > 0)
    return PlaneCounts(sections, ends, int(both.sum()), int((both & (a != b)).sum()))


def _sum(counts: Iterable[PlaneCounts]) -> PlaneCounts:
    return PlaneCounts(*(sum(column) for column in zip(PlaneCounts(), *counts, strict=True)))
