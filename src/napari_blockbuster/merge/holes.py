"""Which holes belong to which merged object: decided on a graph of regions, without a voxel.

A region is all that is connected, through faces of voxels, of one label or of the background of a tile. Which regions touch is
read from the voxels once (`napari_blockbuster.stage.regions`), whatever the merge decides later. A hole is then a set of
connected empty regions that reaches nothing unknown and has one object all around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Filled", "Regions", "fill"]


@dataclass(frozen=True)
class Regions:
    """All regions of the staged tiles: labels first, as numbered by `LabelTable.numbers`, then pieces, tile after tile.

    A piece is a region of background, or the second (third...) region of a label that is not connected within its tile.

    Attributes
    ----------
    n_labels : int
    offsets : numpy.ndarray
        int64, one entry per tile and one more: piece ``k`` of tile ``t`` is number ``n_labels + offsets[t] + k - 1``.
    parents : numpy.ndarray
        int64, for each piece the number of its label, from 1; 0 for background.
    local_parents : numpy.ndarray
        uint32, likewise with the ids 1..n of the tile.
    sizes : numpy.ndarray
        int64, voxels of each region.
    is_open : numpy.ndarray
        bool, for each region: it reaches the image's edge, or a tile that is not staged.
    touching : numpy.ndarray
        Integers of shape (n, 2): regions that share a face of two voxels, at least one of them background.
    labels_touching : numpy.ndarray
        Likewise where both belong to labels.
    """

    n_labels: int
    offsets: np.ndarray
    parents: np.ndarray
    local_parents: np.ndarray
    sizes: np.ndarray
    is_open: np.ndarray
    touching: np.ndarray
    labels_touching: np.ndarray

    def owners(self, labels: np.ndarray) -> np.ndarray:
        """The object of each region, from that of each label."""
        return np.concatenate([labels, np.concatenate([[0], labels])[self.parents]])


@dataclass(frozen=True)
class Filled:
    """The merged ids of all pieces, once holes are filled.

    Attributes
    ----------
    offsets, parents : numpy.ndarray
        `Regions.offsets` and `Regions.local_parents`.
    new_ids : numpy.ndarray
        Merged id of each piece, 0 for background that stays background.
    n_holes : int
        Holes filled; one that spans several tiles counts once.
    is_changed : numpy.ndarray
        bool, for each tile: not every piece of it has the id of its label (0 for background).
    absorbed : numpy.ndarray
        bool, for each label: its object was left out, and it fills a hole of another object.
    """

    offsets: np.ndarray
    parents: np.ndarray
    new_ids: np.ndarray
    n_holes: int
    is_changed: np.ndarray
    absorbed: np.ndarray

    @classmethod
    def of(cls, regions: Regions, new_ids: np.ndarray, hole: np.ndarray) -> Filled:
        """From the merged id of each region, and the hole that it is part of (0: none)."""
        labels, pieces = np.split(new_ids, [regions.n_labels])
        changed = np.concatenate([[0], np.cumsum(regions.owners(labels)[regions.n_labels :] != pieces)])
        is_changed = np.diff(changed[regions.offsets]) > 0
        n_holes = len(np.unique(hole[hole > 0]))
        absorbed = hole[: regions.n_labels] > 0
        return cls(regions.offsets, regions.local_parents, pieces, n_holes, is_changed, absorbed)

    def table(self, tile: int) -> np.ndarray:
        """Merged ids of a tile's pieces, the first piece first; empty if labels alone say what is where."""
        start, stop = self.offsets[tile : tile + 2]
        return self.new_ids[start:stop] if self.is_changed[tile] else self.new_ids[:0]

    def labels_of_pieces(self, tile: int) -> np.ndarray:
        """The label of each piece of a tile, 0 for background."""
        start, stop = self.offsets[tile : tile + 2]
        return self.parents[start:stop]

    @property
    def tiles(self) -> np.ndarray:
        """Tiles in which something is filled."""
        return np.flatnonzero(self.is_changed)


def fill(
    regions: Regions, owner: np.ndarray, max_size: int | None, *, all_pairs: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Give the holes of each object to it.

    Parameters
    ----------
    regions : Regions
    owner : numpy.ndarray
        The object of each region; 0 for what is empty.
    max_size : int or None
        Voxels of the largest hole that is filled; None for any.
    all_pairs : bool, default False
        Some labels are empty as well (their objects were left out), so that contacts between labels count.

    Returns
    -------
    owner, hole : numpy.ndarray
        The object of each region; and which hole a region is part of, counted from 1 (0: it is in none).

    Notes
    -----
    `scipy.sparse.csgraph.connected_components` over the empty regions: linear in regions and contacts.
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
    from scipy import sparse

    joined = [place[table[empty[table[:, 0]] & empty[table[:, 1]]]] for table in pairs]
    low, high = np.concatenate(joined).T
    n = int(empty.sum())
    graph = sparse.coo_array((np.ones(len(low), bool), (low, high)), shape=(n, n))
    component: np.ndarray = sparse.csgraph.connected_components(graph, directed=False)[1]
    return component
