"""Select merged objects: apply an object filter to a merge.

Filters act on merged objects, not on the labels of a tile, because an object that crosses a tile border is small in each
tile. No staged tile changes, so a filter can be undone like any other setting of a merge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from napari_blockbuster.merge.holes.filling import Filled, fill
from napari_blockbuster.merge.holes.region_graph import RegionGraph

from .assignment import Merge
from .filters import ObjectFilter

__all__ = ["apply_filter"]

M = TypeVar("M", bound=Merge)


@dataclass(frozen=True)
class _Filling:
    """Regions, and the hole that each is part of (0: none)."""

    regions: RegionGraph
    hole: np.ndarray


def apply_filter(
    merged: M, keep: ObjectFilter, regions: RegionGraph | None = None, chosen: np.ndarray | None = None
) -> M:
    """Return the merge with only the objects that the filter keeps.

    They are numbered as `Merge.sequential` says: 1..n, or each keeps its number.

    Parameters
    ----------
    merged : Merge
        A merge without a filter.
    keep : ObjectFilter
    regions : RegionGraph, optional
        Needed to fill holes. `Job.filtered` passes them.
    chosen : numpy.ndarray, optional
        Ids of the objects of `merged` that lie in the ranges of the filter. `Job.filtered` passes them.

    Raises
    ------
    ValueError
        If the filter has ranges and `chosen` is missing, if holes are to be filled and `regions` is missing or was built for
        other tiles, or if `merged` has holes filled.
    """
    if not keep:
        return merged
    if merged.filled is not None:
        raise ValueError("This merge already has its holes filled. Apply the filter to the merge before that filter.")
    if keep.ranges and chosen is None:
        raise ValueError("To filter by columns, use Job.merge(filter=...) or Job.filtered(merged, filter).")
    labels = merged.new_ids[1:].astype(np.int64)
    highest = int(labels.max(initial=0))
    in_ranges = None
    if chosen is not None:
        in_ranges = np.zeros(highest + 1, bool)
        in_ranges[chosen] = True
    if not keep.fill_holes:
        kept = _kept(merged, keep, labels, merged.labels_table.objects["core"], in_ranges, highest)
        return _renumbered(merged, keep, kept, labels)
    regions = _fitting(regions, len(labels))
    # Objects outside the region of interest, and labels that a person removed, are background already.
    some_are_empty = merged.n_outside > 0 or bool(merged.settings.remove)
    owner, hole = fill(regions, regions.owners(labels), keep.max_hole_size, all_pairs=some_are_empty)
    kept = _kept(merged, keep, owner, regions.sizes, in_ranges, highest)
    if not kept[owner[owner > 0]].all():
        hole[~kept[owner]] = 0
        owner[~kept[owner]] = 0
        owner, more = fill(regions, owner, keep.max_hole_size, all_pairs=True)
        hole = np.where(more > 0, more + hole.max(initial=0), hole)
    return _renumbered(merged, keep, kept, owner, _Filling(regions, hole))


def _fitting(regions: RegionGraph | None, n_labels: int) -> RegionGraph:
    if regions is None:
        raise ValueError(
            "To fill holes, use Job.merge(filter=...) or Job.filtered(merged, filter): they read the tiles."
        )
    if regions.n_labels != n_labels:
        raise ValueError("Tiles were staged after this merge. Call merge() again.")
    return regions


def _kept(
    merged: Merge,
    keep: ObjectFilter,
    owner: np.ndarray,
    sizes: np.ndarray,
    in_ranges: np.ndarray | None,
    highest: int,
) -> np.ndarray:
    """Whether each merged id is kept; False for ids without an object."""
    voxels = np.bincount(owner, weights=sizes, minlength=highest + 1)
    kept = voxels > 0
    kept[0] = False
    if keep.min_size is not None:
        kept &= voxels >= keep.min_size
    if keep.max_size is not None:
        kept &= voxels <= keep.max_size
    if in_ranges is not None:
        kept &= in_ranges
    if keep.drop_border:
        # Filled holes do not matter here, because no hole reaches the edge.
        edge = merged.labels_table.objects["edge"]
        kept[owner[: len(edge)][edge]] = False
    return kept


def _renumbered(
    merged: M, keep: ObjectFilter, kept: np.ndarray, owner: np.ndarray, filling: _Filling | None = None
) -> M:
    """The merge with new numbers for the kept objects, given the object of each region."""
    found = np.flatnonzero(kept)
    ids = np.zeros(len(kept), merged.new_ids.dtype)
    ids[found] = np.arange(1, len(found) + 1) if merged.sequential else found
    new_ids = ids[owner]
    return replace(
        merged,
        new_ids=np.concatenate([ids[:1], new_ids[: len(merged.new_ids) - 1]]),
        n_objects=len(found),
        filter=keep,
        n_removed=merged.n_objects - len(found),
        filled=None if filling is None else Filled.of(filling.regions, new_ids, filling.hole),
    )
