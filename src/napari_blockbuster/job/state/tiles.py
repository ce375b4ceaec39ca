"""The tiles of a job: the stage on disk, and the tables that were read from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_blockbuster.geometry.tiles import Tile, TileGrid
from napari_blockbuster.job.folder.where import EVERYWHERE, Where
from napari_blockbuster.machine.disk import damage_named
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.merge.holes.region_graph import RegionGraph
from napari_blockbuster.merge.holes.region_search import RegionCache
from napari_blockbuster.merge.region.cut_at_region import LabelsCutAtRegion
from napari_blockbuster.merge.region.inside_search import InsideSearch
from napari_blockbuster.stage.records.records import TileFailure, TileRecord
from napari_blockbuster.stage.regions.store import RegionStore
from napari_blockbuster.stage.repair import Evidence, complete_evidence
from napari_blockbuster.stage.store import StageStore
from napari_blockbuster.stage.tables.label_table import LabelTable, LabelTableCache
from napari_blockbuster.stage.tables.sum_table import NoSumsError, SumTable, SumTableCache

if TYPE_CHECKING:
    import tensorstore as ts
    from distributed import Client

    from napari_blockbuster.inspect.alarm import Alarm
    from napari_blockbuster.inspect.seam_report import SeamReport
    from napari_blockbuster.merge.assignment import Merge

__all__ = ["Tiles"]


class Tiles:
    """The staged and failed tiles of a job. Tables are read once, and again when tiles were staged or replaced.

    Parameters
    ----------
    stage : Path
        The stage folder.
    grid : TileGrid
    where : Where, optional
        Where the job segments.

    Attributes
    ----------
    store : StageStore
        The stage on disk.
    """

    def __init__(self, stage: Path, grid: TileGrid, where: Where = EVERYWHERE) -> None:
        self.grid, self.where = grid, where
        self.store = StageStore(stage, grid)
        self._labels = LabelTableCache(self.store)
        self._sums = SumTableCache(self.store)
        self._regions = RegionCache(self.store)
        self._inside: InsideSearch | None = None
        self._cut: LabelsCutAtRegion | None = None
        self._evidence: tuple[frozenset[int], Evidence] | None = None

    def __len__(self) -> int:
        return len(self.grid)

    # ---------------------------------------------------------------------------------------------------------- states
    def staged(self) -> set[int]:
        """Return the tiles whose labels are on disk."""
        return self.store.indices("tiles")

    def is_staged(self, index: int) -> bool:
        """Whether the labels of a tile are on disk."""
        return self.store.is_staged(index)

    def all_failed(self) -> list[int]:
        """Return the tiles that failed, without reading why. One that was staged since is among them."""
        return sorted(self.store.indices("failed"))

    def failed(self) -> dict[int, TileFailure]:
        """Return the tiles to segment that have no labels, and the reason for each."""
        left = sorted(self.store.indices("failed") - self.staged())
        return {i: self.failure(i) for i in left if not self.where or self.chosen[i]}

    @cached_property
    def chosen(self) -> np.ndarray:
        """Whether each tile is to be segmented: bool. The others are skipped."""
        return self.where.chosen(self.grid)

    @cached_property
    def n_chosen(self) -> int:
        """Number of tiles to segment, staged or not."""
        return int(self.chosen.sum()) if self.where else len(self.grid)

    def order(self) -> list[int]:
        """Return the tiles to segment in the order of `TileGrid.order`."""
        return [index for index in self.grid.order() if self.chosen[index]] if self.where else self.grid.order()

    def among_chosen(self, staged: Collection[int]) -> int:
        """Return how many of some tiles are to be segmented."""
        return sum(1 for index in staged if self.chosen[index]) if self.where else len(staged)

    def missing(self, staged: Collection[int]) -> list[int]:
        """Return the tiles to segment that are not among `staged`."""
        left = set(np.flatnonzero(self.chosen).tolist()) if self.where else set(range(len(self.grid)))
        return sorted(left - set(staged))

    def n_skipped(self, staged: Collection[int]) -> int:
        """Return how many tiles are neither to be segmented nor among `staged`."""
        return len(self.grid) - self.n_chosen - (len(staged) - self.among_chosen(staged))

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

    def read_regions(self, tile: Tile) -> np.ndarray:
        """Read the regions of a staged tile, in which holes are found; see `napari_blockbuster.stage.regions.store`."""
        regions: np.ndarray = RegionStore(self.store).read(tile).result()
        return regions

    def array(self, regions: bool = False) -> ts.TensorStore:
        """Return the labels of all tiles, or their regions, as one array. Ids are local to a tile; 0 where none is staged."""
        return RegionStore(self.store).array if regions else self.store.labels

    def label_at(self, voxel: Sequence[int]) -> int:
        """Read the label at a voxel, with its id local to the tile; 0 for background."""
        place = tuple(slice(int(v), int(v) + 1) for v in voxel)
        return int(self.store.labels[place].read().result().ravel()[0])

    def delete(self) -> None:
        """Delete all staged tiles."""
        self.store.delete()

    # ------------------------------------------------------------------------------------------------------ inspection
    def alarms(self, merged: Merge) -> list[Alarm]:
        """Return what looks wrong in a merge of these tiles; see `napari_blockbuster.inspect.alarms.find_alarms`."""
        from napari_blockbuster.inspect.alarms import find_alarms

        return find_alarms(merged, self.grid, self.store)

    def seam_report(self, merged: Merge, names: Sequence[str] | None = None) -> SeamReport:
        """Compare objects at seams with others; see `napari_blockbuster.inspect.seam_report.seam_report`."""
        from napari_blockbuster.inspect.seam_report import seam_report

        return seam_report(merged, self.store, names=names)

    # ---------------------------------------------------------------------------------------------------------- tables
    def labels_table(self) -> LabelTable:
        """Return the table of labels: how many in each tile, and how large."""
        staged = self.staged()
        with damage_named(self.store.folder.parent):
            return self._labels.table(staged)

    def sums(self) -> SumTable:
        """Return the sums of all labels: sizes, places and intensities.

        Raises
        ------
        NoSumsError
            If an earlier version staged a tile without sums.
        """
        staged = self.staged()
        with damage_named(self.store.folder.parent):
            return self._sums.table(staged)

    def evidence(self, client: Client | None = None) -> np.ndarray:
        """Return the evidence (`napari_blockbuster.stage.seams.evidence.evidence_dtype`) of all pairs of staged tiles.

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

    def inside(self, merged: Merge, client: Client | None = None) -> Merge:
        """Return a merge with only the objects that lie in the region of interest; see `merge.inside_search`.

        It knows which labels continue in skipped tiles. The tiles at the edge of the region are read the first time only.
        """
        roi = self.where.roi
        if roi is None:
            return merged
        if self._inside is None or self._cut is None:
            coverage = self.where.coverage(self.grid)
            self._inside = InsideSearch(self.store, roi, self.where.inside, coverage)
            self._cut = LabelsCutAtRegion(self.store, coverage)
        try:
            sums = self.sums() if self.where.inside == "centroid" else None
        except NoSumsError:
            # Tiles of an earlier version are read instead.
            sums = None
        with damage_named(self.store.folder.parent):
            continues = self._cut.find(merged.labels_table.counts, self.staged())
        return replace(self._inside.applied(merged, sums, client), continues=continues)

    def regions(
        self,
        client: Client | Callable[[], Client] | None,
        canceled: threading.Event,
        progress: Callable[[int, int], None] | None,
    ) -> RegionGraph:
        """Return the regions of all staged tiles, in which holes are found. Tiles are read the first time only."""
        return self._regions.regions(frozenset(self.staged()), client, canceled, progress)

    def stored_regions(self) -> RegionGraph | None:
        """Return the regions of all staged tiles if all of them are on disk; no tile is searched."""
        return self._regions.stored(frozenset(self.staged()))

    def forget(self, tiles: Iterable[int]) -> None:
        """Drop tables in memory that hold tiles which were replaced or deleted."""
        tiles = set(tiles)
        self._labels.forget(tiles)
        self._sums.forget(tiles)
        if self._inside is not None:
            self._inside.forget(tiles)
        if self._cut is not None:
            self._cut.forget(tiles)
        self._regions.forget()
        self._evidence = None
