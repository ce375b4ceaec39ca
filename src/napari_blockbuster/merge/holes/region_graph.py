"""The graph of regions: all regions of the staged tiles in one numbering, and which of them touch.

A region is a connected part of one label or of the background of a tile. The regions of each tile are on disk
(`napari_blockbuster.stage.regions.store`). They do not depend on the merge.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.stage.regions.store import TileRegions

__all__ = ["Contacts", "RegionGraph"]

Contacts = tuple[int, int, np.ndarray]
"""A tile, the next tile along an axis, and the pairs of their regions that touch."""


@dataclass(frozen=True)
class RegionGraph:
    """All regions of the staged tiles: first the labels, numbered as in `LabelTable.numbers`, then the pieces of each tile.

    A piece is a region of background, or a further region of a label that is not connected within its tile.

    Attributes
    ----------
    n_labels : int
    offsets : numpy.ndarray
        int64, one entry per tile plus one: piece ``k`` of tile ``t`` is number ``n_labels + offsets[t] + k - 1``.
    parents : numpy.ndarray
        int64, the number of each piece's label, from 1; 0 for background.
    local_parents : numpy.ndarray
        uint32, the same with the ids 1..n of the tile.
    sizes : numpy.ndarray
        int64, voxels of each region.
    is_open : numpy.ndarray
        bool, whether each region reaches the edge of the image or a tile that is not staged.
    touching : numpy.ndarray
        Integers of shape (n, 2): regions that share a face of two voxels, at least one of them background.
    labels_touching : numpy.ndarray
        The same for pairs in which both regions belong to labels.
    """

    n_labels: int
    offsets: np.ndarray
    parents: np.ndarray
    local_parents: np.ndarray
    sizes: np.ndarray
    is_open: np.ndarray
    touching: np.ndarray
    labels_touching: np.ndarray

    @classmethod
    def of_tiles(cls, grid: TileGrid, tiles: dict[int, TileRegions], contacts: Iterable[Contacts]) -> RegionGraph:
        """Build the graph from the regions of the staged tiles and the contacts across their faces."""
        numbers = _Numbers(len(grid), tiles)
        is_open, sizes = np.zeros(numbers.n_regions, bool), np.zeros(numbers.n_regions, np.int64)
        pairs = [np.zeros((0, 2), numbers.dtype)]
        for index, table in tiles.items():
            own = numbers.of(index, np.arange(1, len(table.sizes) + 1))
            is_open[own] = table.faces & _open_faces(grid, index, tiles.keys()) > 0
            sizes[own] = table.sizes
            pairs.append(numbers.of(index, table.touching))
        for index, other, across in contacts:
            pairs.append(np.stack([numbers.of(index, across[:, 0]), numbers.of(other, across[:, 1])], axis=-1))
        local_parents = np.concatenate([np.zeros(0, np.uint32), *(table.parents for table in tiles.values())])
        first_label = np.repeat(numbers.first_label, numbers.pieces)
        is_background = np.concatenate([np.zeros(numbers.n_labels, bool), local_parents == 0])
        every = np.concatenate(pairs)
        with_background = is_background[every].any(axis=1)
        return cls(
            n_labels=numbers.n_labels,
            offsets=np.concatenate([[0], np.cumsum(numbers.pieces)]),
            parents=np.where(local_parents > 0, local_parents + first_label, 0),
            local_parents=local_parents,
            sizes=sizes,
            is_open=is_open,
            touching=every[with_background],
            labels_touching=every[~with_background],
        )

    def owners(self, labels: np.ndarray) -> np.ndarray:
        """The object of each region, given the object of each label."""
        return np.concatenate([labels, np.concatenate([[0], labels])[self.parents]])


class _Numbers:
    """Numbers of the regions: first all labels, then all pieces, each tile after tile."""

    def __init__(self, n_tiles: int, tiles: dict[int, TileRegions]) -> None:
        self.labels, self.pieces = np.zeros((2, n_tiles), np.int64)
        for index, table in tiles.items():
            self.labels[index], self.pieces[index] = table.n_labels, len(table.parents)
        self.n_labels = int(self.labels.sum())
        self.n_regions = self.n_labels + int(self.pieces.sum())
        self.first_label = np.cumsum(self.labels) - self.labels
        self.first_piece = self.n_labels + np.cumsum(self.pieces) - self.pieces
        # Half the memory if the numbers fit: they are most of the graph.
        self.dtype = np.int32 if self.n_regions < 2**31 else np.int64

    def of(self, index: int, local: np.ndarray) -> np.ndarray:
        """Number of each region of a tile, from its number in the tile."""
        of_pieces = self.first_piece[index] - self.labels[index]
        shift = np.where(local <= self.labels[index], self.first_label[index], of_pieces)
        numbers: np.ndarray = (local + shift - 1).astype(self.dtype)
        return numbers


def _open_faces(grid: TileGrid, index: int, staged: Iterable[int]) -> int:
    """Bits of the faces of a tile that no staged tile lies behind."""
    bits = 0
    for axis in range(grid.separate_axes, grid.ndim):
        for side, step in enumerate((-1, 1)):
            other = grid.neighbor(index, [step * (a == axis) for a in range(grid.ndim)])
            if other is None or other not in staged:
                bits |= 1 << (2 * axis + side)
    return bits
