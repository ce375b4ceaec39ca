"""Find the holes of merged objects and fill them, on the graph of regions: no voxel is read.

A hole is a set of connected empty regions that reaches nothing unknown and that one object surrounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_blockbuster.geometry.components import connected_components

from .region_graph import RegionGraph

__all__ = ["Filled", "fill"]


@dataclass(frozen=True)
class Filled:
    """The merged ids of all pieces after filling.

    Attributes
    ----------
    offsets, parents : numpy.ndarray
        `RegionGraph.offsets` and `RegionGraph.local_parents`.
    new_ids : numpy.ndarray
        Merged id of each piece; 0 for background that is not filled.
    n_holes : int
        Number of filled holes. A hole that spans several tiles counts once.
    is_changed : numpy.ndarray
        bool, for each tile: at least one piece has another id than its label (0 for background).
    absorbed : numpy.ndarray
        bool, for each label: the filter removed its object, and it fills a hole of another object.
    """

    offsets: np.ndarray
    parents: np.ndarray
    new_ids: np.ndarray
    n_holes: int
    is_changed: np.ndarray
    absorbed: np.ndarray

    @classmethod
    def of(cls, regions: RegionGraph, new_ids: np.ndarray, hole: np.ndarray) -> Filled:
        """Build from the merged id of each region and the hole that it is part of (0: none)."""
        labels, pieces = np.split(new_ids, [regions.n_labels])
        changed = np.concatenate([[0], np.cumsum(regions.owners(labels)[regions.n_labels :] != pieces)])
        is_changed = np.diff(changed[regions.offsets]) > 0
        n_holes = len(np.unique(hole[hole > 0]))
        absorbed = hole[: regions.n_labels] > 0
        return cls(regions.offsets, regions.local_parents, pieces, n_holes, is_changed, absorbed)

    def table(self, tile: int) -> np.ndarray:
        """Merged ids of a tile's pieces, in order; empty if nothing of the tile is filled."""
        start, stop = self.offsets[tile : tile + 2]
        return self.new_ids[start:stop] if self.is_changed[tile] else self.new_ids[:0]

    def labels_of_pieces(self, tile: int) -> np.ndarray:
        """The label of each piece of a tile, 0 for background."""
        start, stop = self.offsets[tile : tile + 2]
        return self.parents[start:stop]

    @property
    def tiles(self) -> np.ndarray:
        """Tiles with filled voxels."""
        return np.flatnonzero(self.is_changed)


def fill(
    regions: RegionGraph, owner: np.ndarray, max_size: int | None, *, all_pairs: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Fill the holes of each object.

    Parameters
    ----------
    regions : RegionGraph
    owner : numpy.ndarray
        The object of each region; 0 for empty regions.
    max_size : int or None
        Largest hole that is filled, in voxels; None for no limit.
    all_pairs : bool, default False
        Some labels are empty too, because their objects were removed: contacts between labels count.

    Returns
    -------
    owner, hole : numpy.ndarray
        The object of each region, and the hole that it is part of, counted from 1 (0: none).

    Notes
    -----
    Uses `scipy.sparse.csgraph.connected_components` on the empty regions. Time is linear in regions and contacts.
    """
    empty = owner == 0
    place = np.cumsum(empty) - 1
    pairs = [regions.touching, regions.labels_touching] if all_pairs else [regions.touching]
    component = _components(empty, place, pairs)
    n = int(component.max(initial=-1)) + 1
    lowest, highest = np.full(n, np.iinfo(np.int64).max), np.zeros(n, np.int64)
    for table in pairs:
        for inner, outer in (table.T, table.T[::-1]):
            rim = empty[inner] & ~empty[outer]
            where, who = component[place[inner[rim]]], owner[outer[rim]]
            np.minimum.at(lowest, where, who)
            np.maximum.at(highest, where, who)
    is_hole = lowest == highest
    is_hole[component[regions.is_open[empty]]] = False
    if max_size is not None:
        is_hole &= np.bincount(component, weights=regions.sizes[empty], minlength=n) <= max_size
    filled, hole = owner.copy(), np.zeros(len(owner), np.int64)
    filled[empty] = np.where(is_hole, highest, 0)[component]
    hole[empty] = np.where(is_hole, np.arange(1, n + 1), 0)[component]
    return filled, hole


def _components(empty: np.ndarray, place: np.ndarray, pairs: list[np.ndarray]) -> np.ndarray:
    """Component of each empty region, from 0."""
    joined = [place[table[empty[table[:, 0]] & empty[table[:, 1]]]] for table in pairs]
    low, high = np.concatenate(joined).T
    return connected_components(int(empty.sum()), low, high)[0]
