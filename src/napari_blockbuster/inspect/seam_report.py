"""Seam report: compare objects at seams with objects inside tiles to detect tiling artifacts.

Some objects end at any given plane. Inside a tile this is biology; at a seam it is biology plus tiling artifacts. The
difference is the artifact. It is measured on pairs of planes: in the middle of some tiles, and at some seams (from the
bands). The figures of single tiles come from the evidence alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.stage.store import StageStore

from .merged_table import MergedTable, near_missing
from .seam_planes import AxisPlanes, PlaneSampler

__all__ = ["AxisReport", "SeamReport", "seam_report"]

ENOUGH = 60
"""Smallest number of cross-sections for which a rate is reported."""
SURE = 3.0
"""Standard errors beyond which a difference is significant."""
SLIGHT, SEVERE = 0.03, 0.10
"""Share of the objects at a seam that the seam cuts: limits for some and for many."""
BEYOND_FEW, BEYOND_MANY = 0.02, 0.10
"""Share of the objects at seams that reach beyond the halo: limits for few and for many."""
LARGE = 95
"""Percentile of object size that the halo should hold."""


@dataclass(frozen=True)
class AxisReport:
    """The seams across one axis.

    Attributes
    ----------
    axis, name : int, str
    halo : int
    faces : int
        Number of faces that were read.
    seam_sections, seam_ends : int
        Cross-sections in the planes at those seams, and how many of them do not continue in the other plane.
    inside_sections, inside_ends : int
        The same in the middle of tiles: the values expected without artifacts.
    seam_changed, inside_changed : float
        Share of the contact across the seams of this axis, and across planes inside tiles, at which the object changes.
        NaN without contact.
    extent : float
        Estimated length of a large object along this axis, in voxels; NaN if unknown.
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
        """Share of the objects at seams that end there."""
        return _ratio(self.seam_ends, self.seam_sections)

    @property
    def expected(self) -> float:
        """Share of the objects that end at a plane inside a tile."""
        return _ratio(self.inside_ends, self.inside_sections)

    @property
    def excess(self) -> float:
        """Share of the objects at seams that the seam cuts."""
        return self.rate - self.expected

    @property
    def known(self) -> bool:
        """Whether there are enough objects for a conclusion."""
        return min(self.seam_sections, self.inside_sections) >= ENOUGH

    @property
    def sure(self) -> bool:
        """Whether significantly more objects end at seams than inside tiles."""
        n, m = self.seam_sections, self.inside_sections
        both = _ratio(self.seam_ends + self.inside_ends, n + m)
        error = math.sqrt(max(both * (1 - both), 1e-12) * (1 / max(n, 1) + 1 / max(m, 1)))
        return self.known and self.excess > SURE * error

    @property
    def conclusion(self) -> str:
        """Conclusion for this axis, in a few words."""
        if not self.known:
            return "too few objects for a conclusion"
        if not self.sure or self.excess < SLIGHT:
            return "no more than inside tiles"
        return "some objects are cut" if self.excess < SEVERE else "many objects are cut"

    def line(self) -> str:
        """Line of the report for this axis."""
        if not self.known:
            return f"{self.name}: {self.conclusion}"
        return (
            f"{self.name}: {1000 * self.rate:.0f} of 1000 objects at a seam end there, "
            f"{1000 * self.expected:.0f} expected; {self.conclusion}"
        )


@dataclass(frozen=True)
class SeamReport:
    """Effects of tiling on the objects.

    Attributes
    ----------
    axes : tuple of AxisReport
        One for each axis that has seams.
    tile_changed : numpy.ndarray
        float64, for each tile the share of the contact across its seams at which the object changes; NaN without contact.
    tile_expected : numpy.ndarray
        The same for planes inside tiles: the value expected without artifacts.
    tile_pairs : numpy.ndarray
        int64, for each tile the number of pairs of labels behind the two shares.
    at_seams, beyond_halo : int
        Objects that extend beyond the core of a tile, and how many of them extend beyond its halo too.
    """

    axes: tuple[AxisReport, ...]
    tile_changed: np.ndarray
    tile_expected: np.ndarray
    tile_pairs: np.ndarray
    at_seams: int
    beyond_halo: int

    @property
    def beyond(self) -> float:
        """Share of the objects at seams that no tile sees completely."""
        return _ratio(self.beyond_halo, self.at_seams)

    @property
    def cut(self) -> bool:
        """Whether seams cut objects along any axis."""
        return any(axis.sure and axis.excess >= SLIGHT for axis in self.axes)

    @property
    def halo_enough(self) -> bool:
        """Whether nearly all objects at seams lie within the halo."""
        return self.beyond <= BEYOND_FEW

    @property
    def suggested_halo(self) -> dict[int, int]:
        """Approximate halo needed along each axis whose halo is shorter than a large object."""
        wanted = {a.axis: math.ceil(a.extent) for a in self.axes if not math.isnan(a.extent)}
        return {a.axis: wanted[a.axis] for a in self.axes if a.axis in wanted and wanted[a.axis] > a.halo}

    @property
    def conclusion(self) -> str:
        """One sentence: whether the halo was large enough and, if objects are cut, what to do."""
        if not self.axes:
            return "there is only one tile, so there is no seam"
        if not self.at_seams:
            return "no object meets a seam"
        share = f"{self.beyond:.1%} of the {self.at_seams} objects at seams reach beyond it"
        if not any(axis.halo for axis in self.axes):
            return f"there was no halo, {'and' if self.cut else 'but no'} objects are cut{self._advice()}"
        if not self.cut:
            return f"the halo was large enough: no objects are cut, and {share}"
        if self.halo_enough:
            return (
                f"the halo was large enough ({share}), but objects are cut because tiles disagree about them; "
                "check the alarms, lower min_iou, or improve the model"
            )
        return f"the halo was {'too small' if self.beyond > BEYOND_MANY else 'rather small'}: {share}{self._advice()}"

    def _advice(self) -> str:
        names = {axis.axis: axis.name for axis in self.axes}
        wanted = ", ".join(f"{n} along {names[axis]}" for axis, n in self.suggested_halo.items())
        return f"; a halo of about {wanted} (voxels) would hold nearly all of them" if wanted else ""

    def worst_tiles(self, most: int = 5) -> list[int]:
        """Tiles with far more changes at their seams than expected, worst first."""
        usual = np.clip(np.nan_to_num(self.tile_expected), 0.01, 0.99)
        chance = SURE * np.sqrt(usual * (1 - usual) / np.maximum(self.tile_pairs, 1))
        excess = np.nan_to_num(self.tile_changed - self.tile_expected, nan=-1.0)
        order = np.argsort(-excess, kind="stable")
        return [int(tile) for tile in order if excess[tile] > max(SEVERE, chance[tile])][:most]

    def lines(self) -> list[str]:
        """Lines of the report. The last one is the conclusion."""
        found = [axis.line() for axis in self.axes if axis.known]
        if unknown := [axis for axis in self.axes if not axis.known]:
            found.append(f"{', '.join(axis.name for axis in unknown)}: {unknown[0].conclusion}")
        for tile in self.worst_tiles(3):
            found.append(
                f"tile {tile}: the object changes at {self.tile_changed[tile]:.0%} of the contact across its seams, "
                f"{self.tile_expected[tile]:.0%} expected"
            )
        return [*found, self.conclusion]


# ------------------------------------------------------------------------------------------------------------ measuring
def seam_report(
    merged: Merge, store: StageStore, *, names: Sequence[str] | None = None, most_faces: int = 32, seed: int = 0
) -> SeamReport:
    """Compare objects at seams with objects inside tiles.

    Parameters
    ----------
    merged : Merge
    store : StageStore
    names : sequence of str, optional
        Names of the axes.
    most_faces : int, default 32
        Largest number of faces, and of tiles, that are read per axis. It bounds the time for an image of any size.
    seed : int
        Seed of the random sample.
    """
    grid, table = store.grid, MergedTable(merged, store.grid)
    names = list(names or [f"axis {axis}" for axis in range(grid.ndim)])
    staged = np.zeros(len(grid), bool)
    staged[list(store.indices("tiles"))] = True
    sampler = PlaneSampler(table, store, staged, most_faces, np.random.default_rng(seed))
    with_seams = [a for a in range(grid.separate_axes, grid.ndim) if grid.grid_shape[a] > 1]
    axes = tuple(_axis_report(table, axis, names[axis], sampler.sample(axis)) for axis in with_seams)
    changed, expected, pairs = _per_tile(table, axes)
    at_seams, beyond = _beyond_halo(table, staged)
    return SeamReport(axes, changed, expected, pairs, at_seams, beyond)


def _axis_report(table: MergedTable, axis: int, name: str, planes: AxisPlanes) -> AxisReport:
    of_axis = table.merged.seams["axis"] == axis
    contact, same = _contacts(table)[of_axis], _same_object(table)[of_axis]
    at_seams, inside = planes.at_seams, planes.inside
    return AxisReport(
        axis,
        name,
        table.grid.halo[axis],
        planes.n_faces,
        at_seams.sections,
        at_seams.ends,
        inside.sections,
        inside.ends,
        _ratio(float(contact[~same].sum()), float(contact.sum())),
        _ratio(inside.changed, inside.touching),
        _extent(table, planes.areas),
    )


# --------------------------------------------------------------------------------------------------------- from tables
def _same_object(table: MergedTable) -> np.ndarray:
    low, high = table.ends
    return np.asarray(table.written[low] == table.written[high])


def _contacts(table: MergedTable) -> np.ndarray:
    """Contact of the two labels of each row, in voxels; 0 if the filter removed one of them."""
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


def _beyond_halo(table: MergedTable, staged: np.ndarray) -> tuple[int, int]:
    """Objects that extend beyond a core, and how many of them extend beyond the read box of their tile.

    What lies behind a face of a tile that is not staged is unknown: that face is no seam. There, a label counts only if it
    meets one of another tile.
    """
    objects = table.merged.labels_table.objects
    counts = ~near_missing(table.grid, staged)[table.tiles]
    for end in table.ends:
        counts[end] = True
    at_seam = np.zeros(table.n_rows, bool)
    at_seam[table.ids[((objects["read"] > objects["core"]) | objects["cut"]) & counts]] = True
    at_seam |= table.members > 1
    beyond = np.zeros(table.n_rows, bool)
    beyond[table.ids[objects["cut"] & counts]] = True
    # Row 0 stands for background and for labels that the filter removed.
    return int(at_seam[1:].sum()), int(beyond[1:].sum())


def _extent(table: MergedTable, areas: np.ndarray) -> float:
    """Length of a large object along an axis. Over all planes, mean area is mean volume / mean length."""
    size = table.size[table.members > 0]
    if not len(areas) or not len(size):
        return math.nan
    mean = float(size.mean())
    scale = float((np.percentile(size, LARGE) / mean) ** (1 / table.n_space))
    return mean / float(areas.mean()) * max(scale, 1.0)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
