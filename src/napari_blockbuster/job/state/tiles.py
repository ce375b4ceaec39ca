"""The tiles of a job: the stage on disk, and the tables that were read from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_blockbuster.geometry.tiles import Tile, TileGrid
from napari_blockbuster.machine.disk import damage_named
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.merge.region_graph import RegionGraph
from napari_blockbuster.merge.region_search import RegionCache
from napari_blockbuster.stage.label_table import LabelTable, LabelTableCache
from napari_blockbuster.stage.records import TileFailure, TileRecord
from napari_blockbuster.stage.repair import Evidence, complete_evidence
from napari_blockbuster.stage.store import StageStore

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Tiles"]


class Tiles:
    """The staged and failed tiles of a job. Tables are read once, and again when tiles were staged or replaced.

    Parameters
    ----------
    stage : Path
        The stage folder.
    grid : TileGrid

    Attributes
    ----------
    store : StageStore
        The stage on disk.
    """

    def __init__(self, stage: Path, grid: TileGrid) -> None:
        self.grid = grid
        self.store = StageStore(stage, grid)
        self._labels = LabelTableCache(self.store)
        self._regions = RegionCache(self.store)
        self._evidence: tuple[frozenset[int], Evidence] | None = None

    def __len__(self) -> int:
        return len(self.grid)

    # ---------------------------------------------------------------------------------------------------------- states
    def staged(self) -> set[int]:
        """Return the tiles whose labels are on disk."""
        return self.store.indices("tiles")

    def failed(self) -> dict[int, TileFailure]:
        """Return the tiles without labels, and the reason for each."""
        staged = self.staged()
        return {i: self.failure(i) for i in sorted(self.store.indices("failed") - staged)}

    def missing(self, staged: Collection[int]) -> list[int]:
        """Return the tiles that are not among `staged`."""
        return sorted(set(range(len(self.grid))) - set(staged))

    def record(self, index: int) -> TileRecord:
        """Return the record of a staged tile; see `StageStore.record`."""
        return self.store.record(index)

    def failure(self, index: int) -> TileFailure:
        """Return the reason why a tile failed; see `StageStore.failure`."""
        return self.store.failure(index)

    def read_labels(self, tile: Tile) -> np.ndarray:
        """Read the labels of a staged tile, with ids local to the tile."""
        labels: np.ndarray = self.store.read_labels(tile).result()
        return labels

    # ---------------------------------------------------------------------------------------------------------- tables
    def labels_table(self) -> LabelTable:
        """Return the table of labels: how many in each tile, and how large."""
        staged = self.staged()
        with damage_named(self.store.folder.parent):
            return self._labels.table(staged)

    def evidence(self, client: Client | None = None) -> np.ndarray:
        """Return the evidence (`napari_blockbuster.stage.seams.evidence_dtype`) of all pairs of staged tiles.

        Pairs without evidence, because a run was cut short, are compared now. Nothing is written: the folder may be
        read-only, or in use by another process.
        """
        staged = frozenset(self.staged())
        if self._evidence is None or self._evidence[0] != staged:
            self._evidence = staged, complete_evidence(self.store, self.labels_table().counts, client)
        return self._evidence[1].table

    def save_evidence(self, client: Client | None, owner: Owner) -> None:
        """Write the evidence that is missing on disk, for later merges."""
        self.evidence(client)
        assert self._evidence is not None
        staged, known = self._evidence
        if not known.is_on_disk:
            counts = self.labels_table().counts
            self._evidence = staged, complete_evidence(self.store, counts, client, keep=owner)

    def regions(
        self,
        client: Client | Callable[[], Client] | None,
        canceled: threading.Event,
        progress: Callable[[int, int], None] | None,
    ) -> RegionGraph:
        """Return the regions of all staged tiles, in which holes are found. Tiles are read the first time only."""
        return self._regions.regions(frozenset(self.staged()), client, canceled, progress)

    def forget(self, tiles: Iterable[int]) -> None:
        """Drop tables in memory that hold tiles which were replaced or deleted."""
        self._labels.forget(set(tiles))
        self._regions.forget()
        self._evidence = None
