"""Did the tiles leave a mark? What ends and what changes at the seams, against the same inside tiles.

Objects end everywhere: of those that one plane cuts through, some do not reach the next. Inside a tile that is nature;
at a seam it is nature and what tiling cut. The difference is the artefact. Inside tiles it is measured on pairs of
planes in the middle of some tiles, at seams on the bands of some faces; what is said of single tiles comes from the
evidence alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.stage.store import StageStore

from .merged_table import MergedTable

__all__ = ["AxisReport", "SeamReport", "seam_report"]

SMALL = 0.2
"""Of a typical cross-section: smaller ones are tips and rims, which come and go by a voxel."""
ENOUGH = 60
"""Cross-sections from which on a rate is worth telling."""
SURE = 3.0
"""Standard errors beyond which a difference is no chance."""
SLIGHT, SEVERE = 0.03, 0.10
"""Objects cut by the seam, as a share of those that meet it."""
BEYOND_FEW, BEYOND_MANY = 0.02, 0.10
"""Objects at seams that reach beyond the halo."""
LARGE = 95
"""Percentile of size that a halo should hold."""


@dataclass(frozen=True)
class AxisReport:
    """The seams across one axis.

    Attributes
    ----------
    axis, name : int, str
    halo : int
    faces : int
        How many faces were looked at.
    seam_sections, seam_ends : int
        Objects that meet the planes beside those seams, and how many of them do not go on in the other plane.
    inside_sections, inside_ends : int
        The same in the middle of tiles: what is expected without an artefact.
    seam_changed, inside_changed : float
        Of all that touches across the seams of this axis, the share that changes its object there; and inside tiles.
        NaN if nothing touches.
    extent : float
        How long a large object is along this axis, in voxels, estimated; NaN if unknown.
    """

    axis: int
    name: str
    halo: int
    faces: int
    seam_sections: int
    seam_ends: int
    inside_sections: int
    inside_ends: int
    seam_changed: float
    inside_changed: float
    extent: float

    @property
    def rate(self) -> float:
        """Share of the objects at the seams that end there."""
        return _ratio(self.seam_ends, self.seam_sections)

    @property
    def expected(self) -> float:
        """Share of the objects that end at any other plane."""
        return _ratio(self.inside_ends, self.inside_sections)

    @property
    def excess(self) -> float:
        """Share of the objects at the seams that the seam cuts."""
        return self.rate - self.expected

    @property
    def known(self) -> bool:
        """Whether there are enough objects to say anything."""
        return min(self.seam_sections, self.inside_sections) >= ENOUGH

    @property
    def sure(self) -> bool:
        """Whether more objects end at the seams than chance explains."""
        n, m = self.seam_sections, self.inside_sections
        both = _ratio(self.seam_ends + self.inside_ends, n + m)
        error = math.sqrt(max(both * (1 - both), 1e-12) * (1 / max(n, 1) + 1 / max(m, 1)))
        return self.known and self.excess > SURE * error

    @property
    def verdict(self) -> str:
        if not self.known:
            return "too few objects to say"
        if not self.sure or self.excess < SLIGHT:
            return "no more than anywhere else"
        return "some objects are cut" if self.excess < SEVERE else "many objects are cut"

    def line(self) -> str:
        """One line of text."""
        if not self.known:
            return f"{self.name}: {self.verdict}"
        return (
            f"{self.name}: of 1000 objects at a seam {1000 * self.rate:.0f} end there, "
            f"{1000 * self.expected:.0f} expected; {self.verdict}"
        )


@dataclass(frozen=True)
class SeamReport:
    """What tiling did to the objects.

    Attributes
    ----------
    axes : tuple of AxisReport
        One for each axis that has seams.
    tile_changed : numpy.ndarray
        float64, for each tile the share of what touches across its seams that changes its object there; NaN where
        nothing touches.
    tile_expected : numpy.ndarray
        The same, had its seams been anywhere inside a tile.
    tile_pairs : numpy.ndarray
        int64, how many pairs of labels that rests on.
    at_seams, beyond_halo : int
        Objects that go beyond the core of a tile, and those of them that go beyond its halo as well.
    """

    axes: tuple[AxisReport, ...]
    tile_changed: np.ndarray
    tile_expected: np.ndarray
    tile_pairs: np.ndarray
    at_seams: int
    beyond_halo: int

    @property
    def beyond(self) -> float:
        """Share of the objects at seams that no tile has whole in sight."""
        return _ratio(self.beyond_halo, self.at_seams)

    @property
    def cut(self) -> bool:
        """Whether objects are cut at the seams of any axis."""
        return any(axis.sure and axis.excess >= SLIGHT for axis in self.axes)

    @property
    def halo_enough(self) -> bool:
        """Whether nearly every object at a seam lies within the halo."""
        return self.beyond <= BEYOND_FEW

    @property
    def suggested_halo(self) -> dict[int, int]:
        """For each axis whose halo is shorter than a large object: how long it should be, about."""
        wanted = {a.axis: math.ceil(a.extent) for a in self.axes if not math.isnan(a.extent)}
        return {a.axis: wanted[a.axis] for a in self.axes if a.axis in wanted and wanted[a.axis] > a.halo}

    @property
    def verdict(self) -> str:
        """One sentence: was the halo large enough, and if not, or if objects are cut all the same, what to do."""
        if not self.axes:
            return "there is one tile only, and no seam"
        if not self.at_seams:
            return "no object meets a seam"
        share = f"{self.beyond:.1%} of the {self.at_seams} objects at seams reach beyond it"
        if not any(axis.halo for axis in self.axes):
            return f"there was no halo{', and objects are cut' if self.cut else ', yet none are cut'}{self._advice()}"
        if not self.cut:
            return f"the halo was large enough: nothing is cut, and {share}"
        if self.halo_enough:
            return (
                f"the halo was large enough ({share}), yet objects are cut: tiles disagree about them; "
                "look at the alarms, try a lower min_iou, or improve the model"
            )
        return f"the halo was {'too small' if self.beyond > BEYOND_MANY else 'rather small'}: {share}{self._advice()}"

    def _advice(self) -> str:
        names = {axis.axis: axis.name for axis in self.axes}
        wanted = ", ".join(f"{n} along {names[axis]}" for axis, n in self.suggested_halo.items())
        return f"; a halo of about {wanted} voxels would hold nearly all" if wanted else ""

    def worst_tiles(self, most: int = 5) -> list[int]:
        """Tiles at whose seams far more changes than expected, the worst first."""
        usual = np.clip(np.nan_to_num(self.tile_expected), 0.01, 0.99)
        chance = SURE * np.sqrt(usual * (1 - usual) / np.maximum(self.tile_pairs, 1))
        excess = np.nan_to_num(self.tile_changed - self.tile_expected, nan=-1.0)
        order = np.argsort(-excess, kind="stable")
        return [int(tile) for tile in order if excess[tile] > max(SEVERE, chance[tile])][:most]

    def lines(self) -> list[str]:
        """What the command line prints."""
        found = [axis.line() for axis in self.axes]
        for tile in self.worst_tiles(3):
            found.append(
                f"tile {tile}: {self.tile_changed[tile]:.0%} of what touches across its seams changes its object, "
                f"{self.tile_expected[tile]:.0%} expected"
            )
        return [*found, self.verdict]


# ------------------------------------------------------------------------------------------------------------ measuring
class _Planes(NamedTuple):
    """Counts from pairs of adjacent planes, summed up."""

    sections: int = 0
    ends: int = 0
    touching: int = 0
    changed: int = 0


def seam_report(
    merged: Merge, store: StageStore, *, names: Sequence[str] | None = None, most_faces: int = 32, seed: int = 0
) -> SeamReport:
    """Compare what ends and changes at seams with the same inside tiles.

    Parameters
    ----------
    merged : Merge
    store : StageStore
    names : sequence of str, optional
        Names of the axes.
    most_faces : int, default 32
        So many faces, and so many tiles, are looked at for each axis: that is what it costs, whatever the image's size.
    seed : int
        Chooses them.
    """
    grid, table = store.grid, MergedTable(merged, store.grid)
    names = list(names or [f"axis {axis}" for axis in range(grid.ndim)])
    there = np.zeros(len(grid), bool)
    there[list(store.indices("tiles"))] = True
    with_seams = [a for a in range(grid.separate_axes, grid.ndim) if grid.grid_shape[a] > 1]
    rng = np.random.default_rng(seed)
    axes = tuple(_axis(table, store, axis, names[axis], there, most_faces, rng) for axis in with_seams)
    changed, expected, pairs = _per_tile(table, axes)
    at_seams, beyond = _beyond_halo(table)
    return SeamReport(axes, changed, expected, pairs, at_seams, beyond)


def _axis(
    table: MergedTable,
    store: StageStore,
    axis: int,
    name: str,
    there: np.ndarray,
    most: int,
    rng: np.random.Generator,
) -> AxisReport:
    grid = store.grid
    index = np.arange(len(grid)).reshape(grid.grid_shape)
    low = index.take(range(grid.grid_shape[axis] - 1), axis).ravel()
    high = index.take(range(1, grid.grid_shape[axis]), axis).ravel()
    faces = np.flatnonzero(there[low] & there[high])
    faces = np.sort(rng.permutation(faces)[:most])
    tiles = np.unique(np.concatenate([low[faces], high[faces]]))
    tiles = np.sort(rng.permutation(tiles)[:most])
    with ThreadPoolExecutor(4) as pool:
        inside = [p for p in pool.map(lambda t: _inside(table, store, axis, int(t)), tiles) if p is not None]
        areas = np.concatenate([np.zeros(0), *(_areas(a) for a, _ in inside)])
        floor = SMALL * float(np.median(areas)) if len(areas) else 0.0
        seams = pool.map(lambda f: _at_seam(table, store, axis, int(low[f]), int(high[f])), faces)
        at_seam = _sum(_compare(a, b, floor) for a, b in seams)
    within = _sum(_compare(a, b, floor) for a, b in inside)
    contact = _contacts(table)[table.merged.seams["axis"] == axis]
    same = _same_object(table)[table.merged.seams["axis"] == axis]
    return AxisReport(
        axis,
        name,
        grid.halo[axis],
        len(faces),
        at_seam.sections,
        at_seam.ends,
        within.sections,
        within.ends,
        _ratio(float(contact[~same].sum()), float(contact.sum())),
        _ratio(within.changed, within.touching),
        _extent(table, areas),
    )


def _inside(table: MergedTable, store: StageStore, axis: int, tile: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Merged ids of two planes in the middle of a tile; None for a tile that is too thin to have a middle."""
    core = store.grid[tile].core
    middle = (core.start[axis] + core.stop[axis]) // 2
    if core.shape[axis] < 4:
        return None
    index = list(core.slices)
    index[axis] = slice(middle - 1, middle + 1)
    both = table.merged.table(tile)[store.labels[tuple(index)].read().result()]
    return both.take(0, axis), both.take(1, axis)


def _at_seam(table: MergedTable, store: StageStore, axis: int, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """Merged ids of the last plane of one tile and the first of the next."""
    depth = store.grid.depth(axis)
    planes = []
    for tile, side, place in ((low, "low", max(depth, 1) - 1), (high, "high", depth)):
        band = store.read_band(store.grid[tile], axis, side)
        planes.append(table.merged.table(tile)[band.take(place, axis)])
    return planes[0], planes[1]


def _areas(plane: np.ndarray) -> np.ndarray:
    return np.unique(plane[plane > 0], return_counts=True)[1].astype(np.float64)


def _compare(a: np.ndarray, b: np.ndarray, floor: float) -> _Planes:
    sections = ends = 0
    for one, other in ((a, b), (b, a)):
        ids, area = np.unique(one[one > 0], return_counts=True)
        ids = ids[area >= floor]
        sections += len(ids)
        ends += int((~np.isin(ids, other)).sum())
    both = (a > 0) & (b > 0)
    return _Planes(sections, ends, int(both.sum()), int((both & (a != b)).sum()))


def _sum(counts: Iterable[_Planes]) -> _Planes:
    return _Planes(*(sum(column) for column in zip(_Planes(), *counts, strict=True)))


# --------------------------------------------------------------------------------------------------------- from tables
def _same_object(table: MergedTable) -> np.ndarray:
    low, high = table.ends
    return np.asarray(table.written[low] == table.written[high])


def _contacts(table: MergedTable) -> np.ndarray:
    """Voxels with which the two labels of each row touch; 0 where one of them is background because it was left out."""
    return table.merged.seams["contact"][:, 0] * table.shown.astype(np.float64)


def _per_tile(table: MergedTable, axes: Sequence[AxisReport]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    seams, n = table.merged.seams, len(table.grid)
    contact = _contacts(table)
    by_axis = np.full(table.grid.ndim, np.nan)
    for axis in axes:
        by_axis[axis.axis] = axis.inside_changed
    usual = np.nan_to_num(by_axis)[seams["axis"]]

    def summed(weights: np.ndarray) -> np.ndarray:
        return np.bincount(seams["low"], weights, n) + np.bincount(seams["high"], weights, n)

    total = summed(contact)
    some = total > 0
    changed, expected = np.full(n, np.nan), np.full(n, np.nan)
    changed[some] = summed(contact * ~_same_object(table))[some] / total[some]
    expected[some] = summed(contact * usual)[some] / total[some]
    return changed, expected, summed(contact > 0).astype(np.int64)


def _beyond_halo(table: MergedTable) -> tuple[int, int]:
    """How many objects go beyond a core, and how many of those beyond the read box of a tile that wrote them."""
    objects = table.merged.labels_table.objects
    at_seam = np.zeros(table.n_rows, bool)
    at_seam[table.ids[(objects["read"] > objects["core"]) | objects["cut"]]] = True
    at_seam |= table.members > 1
    beyond = np.zeros(table.n_rows, bool)
    beyond[table.ids[objects["cut"]]] = True
    # Labels that were left out are no objects.
    return int(at_seam[1:].sum()), int(beyond[1:].sum())


def _extent(table: MergedTable, areas: np.ndarray) -> float:
    """Length of a large object along an axis: over all planes, mean section is mean volume through mean length."""
    size = table.size[table.members > 0]
    if not len(areas) or not len(size):
        return math.nan
    mean = float(size.mean())
    scale = float((np.percentile(size, LARGE) / mean) ** (1 / table.n_space))
    return mean / float(areas.mean()) * max(scale, 1.0)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
