"""Table of the labels of all staged tiles: their number, their sizes, and the typical size in each tile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from napari_blockbuster.stage.labels import OBJECT
from napari_blockbuster.stage.store import StageStore

__all__ = ["LabelTable", "LabelTableCache"]

ENOUGH = 10
"""Least number of uncut objects in a tile for which the median of the tile is its typical size."""


@dataclass(frozen=True)
class LabelTable:
    """Labels before any merge.

    Attributes
    ----------
    counts : numpy.ndarray
        int64, labels of each tile of the grid; 0 for tiles that are not staged.
    objects : numpy.ndarray
        `OBJECT` rows of all labels, tile after tile.
    typical_size : numpy.ndarray
        float64, the median size of the uncut objects of each tile, in voxels; of all tiles, for tiles with too few objects; 0
        if there are no objects.
    """

    counts: np.ndarray
    objects: np.ndarray
    typical_size: np.ndarray

    @classmethod
    def of_counts(cls, counts: np.ndarray) -> LabelTable:
        """Return a table of labels of unknown size."""
        counts = np.asarray(counts, np.int64)
        return cls(counts, np.zeros(int(counts.sum()), OBJECT), np.zeros(len(counts)))

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64, one entry per tile and one more: label ``k`` of tile ``t`` is number ``offsets[t] + k``, from 1."""
        return np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])

    def numbers(self, tiles: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Return the numbers of labels over all tiles, from 0: their rows in `objects`."""
        rows: np.ndarray = self.offsets[tiles] + ids.astype(np.int64) - 1
        return rows

    def typical_of(self, kept: np.ndarray) -> np.ndarray:
        """Return `typical_size` for some of the labels.

        Parameters
        ----------
        kept : numpy.ndarray
            bool, for each label whether it is included.
        """
        tiles = np.repeat(np.arange(len(self.counts)), self.counts)
        rows = np.flatnonzero(kept & ~self.objects["cut"] & (self.objects["read"] > 0))
        rows = rows[np.lexsort((self.objects["read"][rows], tiles[rows]))]
        read = self.objects["read"][rows].astype(np.float64)
        whole = np.bincount(tiles[rows], minlength=len(self.counts))
        some = whole > 0
        first = (np.cumsum(whole) - whole)[some]
        typical = np.zeros(len(self.counts))
        typical[some] = (read[first + (whole[some] - 1) // 2] + read[first + whole[some] // 2]) / 2
        return np.where(whole >= ENOUGH, typical, _weighted_median(typical[some], whole[some]))


class LabelTableCache:
    """Reads the table of a stage, and each tile only once."""

    def __init__(self, store: StageStore) -> None:
        self._store = store
        self._tiles: dict[int, tuple[np.ndarray, float, int]] = {}
        self._table: LabelTable | None = None

    def forget(self, tiles: set[int]) -> None:
        """Read these tiles again at the next call of `table`, because they were segmented again."""
        for index in tiles & self._tiles.keys():
            del self._tiles[index]
        self._table = None

    def table(self, staged: set[int]) -> LabelTable:
        """Return the table of the tiles staged so far."""
        new, gone = staged - self._tiles.keys(), self._tiles.keys() - staged
        for index in gone:
            del self._tiles[index]
        for index in new:
            tile = self._store.staged(index)
            self._tiles[index] = tile.objects(), tile.record.typical_size, tile.record.n_whole
        if self._table is None or new or gone:
            self._table = self._build()
        return self._table

    def _build(self) -> LabelTable:
        n_tiles = len(self._store.grid)
        counts, typical = np.zeros(n_tiles, np.int64), np.zeros(n_tiles)
        whole = np.zeros(n_tiles, np.int64)
        for index, (objects, size, n) in self._tiles.items():
            counts[index], typical[index], whole[index] = len(objects), size, n
        tables = [self._tiles[index][0] for index in sorted(self._tiles)]
        everywhere = _weighted_median(typical[whole > 0], whole[whole > 0])
        return LabelTable(
            counts,
            np.concatenate(tables) if tables else np.zeros(0, OBJECT),
            np.where(whole >= ENOUGH, typical, everywhere),
        )


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    if not len(values):
        return 0.0
    order = np.argsort(values)
    half = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
    return float(values[order][half])
