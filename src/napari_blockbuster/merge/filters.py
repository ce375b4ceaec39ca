"""Which merged objects are kept, by size and by whether the image's edge cuts them; and whether their holes are filled.

Filters act on merged objects, never on the labels of a tile: an object that a tile border cuts is small in each tile. No
staged tile is changed, so that a filter can be taken back like any other setting of a merge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .holes import Filled, Regions, fill

if TYPE_CHECKING:
    from .numbering import Merge

    M = TypeVar("M", bound=Merge)

__all__ = ["ObjectFilter"]


@dataclass(frozen=True)
class ObjectFilter:
    """What is kept of the merged objects, and whether their holes are filled.

    A hole is background, connected through faces of voxels, that has a single merged object around it and reaches neither
    the image's edge nor a tile that is not staged: what lies in a tile that failed is unknown. Background around an object
    that lies inside another one is next to both, and belongs to neither. Time points are looked at apart.

    Holes are filled first, then sizes are counted, holes included. What is left out then counts as background, and what
    that leaves enclosed is filled as well: a nucleus with a speck in its hole comes back whole, its speck left out.

    Attributes
    ----------
    min_size, max_size : int or None
        In voxels of the image, both kept themselves; None for no limit.
    drop_border : bool
        Remove objects that touch the image's edge: they are cut there, and their size says little.
    fill_holes : bool
        Fill the holes of each object.
    max_hole_size : int or None
        Voxels of the largest hole that is filled; None for any.

    Raises
    ------
    ValueError
        If a size is negative, no size is left between the two, or there is a limit for holes that are not to be filled.
    """

    min_size: int | None = None
    max_size: int | None = None
    drop_border: bool = False
    fill_holes: bool = False
    max_hole_size: int | None = None

    def __post_init__(self) -> None:
        if self.max_hole_size is not None and not self.fill_holes:
            raise ValueError(
                f"max_hole_size is {self.max_hole_size}, but holes are not filled: add fill_holes=True (--fill-holes)"
            )
        for name in ("min_size", "max_size", "max_hole_size"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}; a size is counted in voxels, 0 or more")
        if self.min_size is not None and self.max_size is not None and self.min_size > self.max_size:
            raise ValueError(f"min_size is {self.min_size} and max_size {self.max_size}: no object lies between them")

    @classmethod
    def of_volumes(
        cls,
        smallest: float | None,
        largest: float | None,
        spacing: Sequence[float],
        drop_border: bool = False,
        fill_holes: bool = False,
        largest_hole: float | None = None,
    ) -> ObjectFilter:
        """The filter for sizes in the image's own unit (square micrometres in 2D, cubic in 3D).

        Parameters
        ----------
        smallest, largest : float or None
        spacing : sequence of float
            Extent of a voxel along each spatial axis.
        drop_border, fill_holes : bool, default False
        largest_hole : float, optional
            Of the holes that are filled.
        """
        voxel = math.prod(spacing)
        # A hair of tolerance: 20 voxels of 0.1 are 2.0000000000000004, and a filter at 2 keeps them.
        low = None if smallest is None else math.ceil(smallest / voxel * (1 - 1e-9))
        high, hole = (None if x is None else math.floor(x / voxel * (1 + 1e-9)) for x in (largest, largest_hole))
        return cls(low, high, drop_border, fill_holes, hole)

    def __bool__(self) -> bool:
        return self != ObjectFilter()

    def settings(self) -> dict[str, Any]:
        """What differs from keeping everything: JSON-ready."""
        return {name: value for name, value in asdict(self).items() if value not in (None, False)}

    def apply(self, merged: M, regions: Regions | None = None) -> M:
        """Return the merge without the objects that are not kept.

        The others are numbered as `Merge.sequential` says: 1..n again, or each keeps its number.

        Parameters
        ----------
        merged : Merge
            As it came from the rule, without a filter.
        regions : Regions, optional
            What `fill_holes` needs; `Job.filtered` knows it.

        Raises
        ------
        ValueError
            If holes are to be filled and the regions are missing or those of other tiles, or if `merged` has holes filled.
        """
        if not self:
            return merged
        if merged.filled is not None:
            raise ValueError("this merge has holes filled already: apply the filter to the merge that it was made from")
        labels = merged.new_ids[1:].astype(np.int64)
        highest = int(labels.max(initial=0))
        if not self.fill_holes:
            keep = self._kept(merged, labels, merged.labels_table.objects["core"], highest)
            return self._renumbered(merged, keep, labels)
        regions = _fitting(regions, len(labels))
        owner, hole = fill(regions, regions.owners(labels), self.max_hole_size)
        keep = self._kept(merged, owner, regions.sizes, highest)
        if not keep[owner[owner > 0]].all():
            hole[~keep[owner]] = 0
            owner[~keep[owner]] = 0
            owner, more = fill(regions, owner, self.max_hole_size, all_pairs=True)
            hole = np.where(more > 0, more + hole.max(initial=0), hole)
        return self._renumbered(merged, keep, owner, regions, hole)

    def _renumbered(
        self,
        merged: M,
        keep: np.ndarray,
        owner: np.ndarray,
        regions: Regions | None = None,
        hole: np.ndarray | None = None,
    ) -> M:
        """The merge with the object of each region numbered anew."""
        found = np.flatnonzero(keep)
        ids = np.zeros(len(keep), merged.new_ids.dtype)
        ids[found] = np.arange(1, len(found) + 1) if merged.sequential else found
        new_ids = ids[owner]
        return replace(
            merged,
            new_ids=np.concatenate([ids[:1], new_ids[: len(merged.new_ids) - 1]]),
            n_objects=len(found),
            filter=self,
            n_removed=merged.n_objects - len(found),
            filled=None if regions is None or hole is None else Filled.of(regions, new_ids, hole),
        )

    def _kept(self, merged: Merge, owner: np.ndarray, sizes: np.ndarray, highest: int) -> np.ndarray:
        """Whether each merged id is kept; False for ids that no object has."""
        voxels = np.bincount(owner, weights=sizes, minlength=highest + 1)
        keep = voxels > 0
        keep[0] = False
        if self.min_size is not None:
            keep &= voxels >= self.min_size
        if self.max_size is not None:
            keep &= voxels <= self.max_size
        if self.drop_border:
            # Filling changes nothing here: no hole reaches the edge.
            edge = merged.labels_table.objects["edge"]
            keep[owner[: len(edge)][edge]] = False
        return keep


def _fitting(regions: Regions | None, n_labels: int) -> Regions:
    if regions is None:
        raise ValueError(
            "holes are filled by Job.merge(filter=...) or Job.filtered(merged, filter): they read the tiles"
        )
    if regions.n_labels != n_labels:
        raise ValueError("tiles were staged since this merge was made; call merge() again")
    return regions
