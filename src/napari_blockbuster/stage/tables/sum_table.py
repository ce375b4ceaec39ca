"""Table of the sums of all staged labels, tile after tile, in the order of `napari_blockbuster.stage.tables.label_table`."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.stage.store import StageStore
from napari_blockbuster.stage.sums.label_sums import CONTACT, TileSums

__all__ = ["NoSumsError", "SumTable", "SumTableCache"]


class NoSumsError(JobError):
    """Tiles were staged without sums."""


@dataclass(frozen=True)
class SumTable:
    """Sums of labels before any merge.

    Attributes
    ----------
    grid : TileGrid
    counts : numpy.ndarray
        int64, labels of each tile of the grid; 0 for tiles that are not staged.
    sums : TileSums
        The labels of all tiles, one tile after the other. The labels in `contacts` are local to their tile, and the rows of a
        tile are in ascending order.
    contact_counts : numpy.ndarray
        int64, rows of ``sums.contacts`` of each tile of the grid.
    """

    grid: TileGrid
    counts: np.ndarray
    sums: TileSums
    contact_counts: np.ndarray
    cache: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)
    """What was computed from the sums of each label, and holds for every merge."""

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.grid.ndim - self.grid.separate_axes

    @property
    def n_channels(self) -> int:
        """Number of measured channels."""
        return len(self.sums.intensity)

    @cached_property
    def tiles(self) -> np.ndarray:
        """The tile of each label."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def origins(self) -> np.ndarray:
        """int64, (axes of the image, labels): the first voxel of the core of each label's tile."""
        positions = np.unravel_index(self.tiles, self.grid.grid_shape)
        extents = self.grid.tile_shape
        return np.stack([p.astype(np.int64) * n for p, n in zip(positions, extents, strict=True)])

    @cached_property
    def contact_starts(self) -> np.ndarray:
        """int64, (labels + 1): the first row of ``sums.contacts`` in which each label is the lower one."""
        offsets = np.cumsum(self.counts) - self.counts
        lower = np.repeat(offsets, self.contact_counts) + self.sums.contacts["low"] - 1
        per_label = np.bincount(lower, minlength=int(self.counts.sum()))
        return np.concatenate([[0], np.cumsum(per_label)])

    def contacts(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the contacts inside tiles in which these labels are the lower ones.

        Parameters
        ----------
        labels : numpy.ndarray
            Numbers of labels over all tiles, from 0.

        Returns
        -------
        rows, low, high : numpy.ndarray
            Rows of ``sums.contacts``, and the numbers of their labels.
        """
        starts, ends = self.contact_starts[labels], self.contact_starts[labels + 1]
        lengths = ends - starts
        rows = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        low = np.repeat(labels, lengths)
        local = self.sums.contacts[rows]
        return rows, low, low + local["high"] - local["low"]


class SumTableCache:
    """Reads the sums of a stage, and each tile only once."""

    def __init__(self, store: StageStore) -> None:
        self._store = store
        self._tiles: dict[int, TileSums] = {}
        self._table: SumTable | None = None

    def forget(self, tiles: set[int]) -> None:
        """Read these tiles again at the next call of `table`, because they were segmented again."""
        for index in tiles & self._tiles.keys():
            del self._tiles[index]
        self._table = None

    def table(self, staged: set[int]) -> SumTable:
        """Return the table of the tiles staged so far.

        Raises
        ------
        NoSumsError
            If an earlier version staged a tile without sums.
        """
        new, gone = staged - self._tiles.keys(), self._tiles.keys() - staged
        for index in gone:
            del self._tiles[index]
        for index in sorted(new):
            self._tiles[index] = self._read(index)
        if self._table is None or new or gone:
            self._table = self._build()
        return self._table

    def _read(self, index: int) -> TileSums:
        sums = self._store.staged(index).sums()
        if sums is None:
            raise NoSumsError(
                f"Tile {index} was staged by an earlier version of napari-blockbuster, which kept no sums for a table. "
                "Write the labels, then measure them: napari-blockbuster measure LABELS IMAGE."
            )
        return sums

    def _build(self) -> SumTable:
        grid = self._store.grid
        indices = sorted(self._tiles)
        tiles = [self._tiles[index] for index in indices]
        some = [tile for tile in tiles if tile.place.shape[1]]
        counts, contact_counts = np.zeros(len(grid), np.int64), np.zeros(len(grid), np.int64)
        counts[indices] = [tile.place.shape[1] for tile in tiles]
        contact_counts[indices] = [len(tile.contacts) for tile in tiles]
        if some:
            # Tiles of a second try may have other channels than those of the run: only channels of all tiles count.
            channels = min(len(tile.intensity) for tile in some)
            sums = TileSums(
                np.concatenate([tile.place for tile in some], axis=1),
                np.concatenate([tile.intensity[:channels] for tile in some], axis=2),
                np.concatenate([tile.contacts for tile in some]),
            )
        else:
            sums = TileSums.empty(grid.ndim - grid.separate_axes)
        self._share(indices, sums)
        return SumTable(grid, counts, sums, contact_counts)

    def _share(self, indices: list[int], sums: TileSums) -> None:
        """Replace the arrays of each tile by parts of the table, so that memory holds them once."""
        at = row = 0
        for index in indices:
            n, m = self._tiles[index].place.shape[1], len(self._tiles[index].contacts)
            if n:
                part = sums.contacts[row : row + m] if m else np.zeros(0, CONTACT)
                self._tiles[index] = TileSums(sums.place[:, at : at + n], sums.intensity[:, :, at : at + n], part)
            at, row = at + n, row + m
