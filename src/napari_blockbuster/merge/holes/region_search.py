"""The pass over the tiles that finds the regions of their background, before holes are filled for the first time.

Like staging, it runs in this process or on a cluster, with a bounded number of tiles in flight, and it can be stopped and
resumed. A merge with other settings needs no new pass, because the contacts of regions do not depend on the merge.

The pass writes below the stage folder without the lock of the job. Two processes may run it at the same time: both write the
same bytes, tables are replaced atomically, and each table carries the stamp of the tile that it describes, so the table of a
tile that is staged again is not used. Known gap: nothing stops one process from staging a tile again while another searches
it. If the searching process is killed between writing voxels and table, the two may not match; `Job.check` finds this.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.execution.work import Work
from napari_blockbuster.machine.disk import damage_named, finish_writes, writing_to
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.stage.regions.labeling import regions_of, touching_across
from napari_blockbuster.stage.regions.store import RegionStore, TileRegions
from napari_blockbuster.stage.store import StageStore

from .region_graph import Contacts, RegionGraph

if TYPE_CHECKING:
    from distributed import Client

    Clients = Client | Callable[[], Client] | None

__all__ = ["RegionCache", "RegionFacesWork", "RegionSearchCanceled", "RegionWork"]


class RegionSearchCanceled(JobError):
    """The search for holes was canceled."""


@dataclass
class RegionWork(Work[int]):
    """Number the regions of a tile."""

    store: RegionStore

    @property
    def folder(self) -> Path:
        """Folder that workers must be able to read and write."""
        return self.store.stage.folder

    def ahead(self, item: int) -> Any:
        # Read the stamp first: if the tile is staged again meanwhile, the table is recognized as stale.
        return self.store.stamp(item), self.store.stage.read_labels(self.store.stage.grid[item])

    def ship(self, item: int) -> None:
        return None

    def __call__(self, item: int, payload: Any) -> Callable[[], int]:
        stage = self.store.stage
        tile = stage.grid[item]
        with damage_named(stage.folder.parent):
            stamp, reading = payload or self.ahead(item)
            labels, n_labels = reading.result(), stage.record(item).n_objects
            regions, found = regions_of(labels, n_labels, stamp, stage.grid.separate_axes)
        # Delete the table before its voxels change, so that an interruption leaves no table that does not match.
        with writing_to(self.store.folder):
            self.store.drop(item)

        def write() -> list[Any]:
            target = self.store.array[tile.core.slices]
            return [target.write(regions, can_reference_source_data_indefinitely=True)]

        writes = write()

        def finish() -> int:
            with writing_to(self.store.folder):
                finish_writes(writes, [self.store.chunk_file(item)], write)
            self.store.save(item, found)
            return item

        return finish

    def lost(self, item: int, error: BaseException) -> int:
        raise error


@dataclass
class RegionFacesWork(Work[int]):
    """Find the regions that touch across the faces between a tile and the next tile along each axis."""

    store: RegionStore
    next_tiles: dict[int, dict[int, int]]
    """For each tile, the next tile along some axes."""

    @property
    def folder(self) -> Path:
        """Folder that workers must be able to read and write."""
        return self.store.stage.folder

    def ahead(self, item: int) -> dict[int, int]:
        return self.next_tiles[item]

    ship = ahead

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"next_tiles": {}}

    def __call__(self, item: int, payload: dict[int, int]) -> Callable[[], int]:
        with damage_named(self.store.stage.folder.parent):
            stamp = self.store.stamp(item)
            known = {axis: old for axis, old in self.store.load_faces(item).items() if axis not in payload}
            planes = [
                (axis, other, self._plane(item, axis, -1), self._plane(other, axis, 0))
                for axis, other in payload.items()
            ]
            contacts = {
                axis: (stamp, self.store.stamp(other), touching_across(own.result(), its.result()))
                for axis, other, own, its in planes
            }
        self.store.save_faces(item, known | contacts)
        return lambda: item

    def _plane(self, index: int, axis: int, place: int) -> Any:
        """Start reading the first or the last plane of a tile's core along an axis."""
        core = self.store.stage.grid[index].core
        where = list(core.slices)
        at = core.start[axis] if place == 0 else core.stop[axis] - 1
        where[axis] = slice(at, at + 1)
        return self.store.array[tuple(where)].read()

    def lost(self, item: int, error: BaseException) -> int:
        raise error


@dataclass
class _Control:
    """Where a search runs, how it is canceled, and who follows its progress."""

    client: Clients
    canceled: threading.Event
    progress: Callable[[int, int], None] | None


class RegionCache:
    """The regions of a job's staged tiles. Missing ones are computed; the result stays in memory until tiles change."""

    def __init__(self, stage: StageStore) -> None:
        self._store = RegionStore(stage)
        self._known: tuple[frozenset[int], RegionGraph] | None = None

    def forget(self) -> None:
        """Read the disk again next time, because tiles were staged again."""
        self._known = None

    def stored(self, staged: frozenset[int]) -> RegionGraph | None:
        """Return the regions of the staged tiles if all of them are on disk. Nothing is computed or written."""
        return _Search(self._store, staged, _Control(None, threading.Event(), None)).stored()

    def regions(
        self,
        staged: frozenset[int],
        client: Clients,
        canceled: threading.Event,
        progress: Callable[[int, int], None] | None,
    ) -> RegionGraph:
        """Return the regions of the staged tiles. Tiles without regions are read and searched now.

        Parameters
        ----------
        staged : frozenset of int
        client : distributed.Client or callable, optional
            A client, or a function that returns one. The function is called only if tiles have to be read.
        canceled : threading.Event
        progress : callable, optional
            ``progress(done, total)`` in tiles. Each tile counts twice.

        Raises
        ------
        RegionSearchCanceled
            If `canceled` is set during the search.
        JobError
            If a staged tile is damaged.
        StoreError
            If the disk is full, read-only or disconnected.
        """
        if self._known is None or self._known[0] != staged:
            with writing_to(self._store.folder):
                self._store.create()
            search = _Search(self._store, staged, _Control(client, canceled, progress))
            self._known = staged, search.result()
        return self._known[1]


class _Search:
    """One search for the regions of some tiles. Missing and stale tables are computed."""

    def __init__(self, store: RegionStore, staged: frozenset[int], control: _Control) -> None:
        self.store, self.grid, self.control = store, store.stage.grid, control
        self.tiles = sorted(staged)
        with damage_named(store.stage.folder.parent):
            self.stamps = {index: store.stamp(index) for index in self.tiles}

    def result(self) -> RegionGraph:
        found = self._tiles()
        missing = [index for index in self.grid.order() if index in self.stamps and index not in found]
        if missing:
            # Nearly all of them are read a second time for their faces.
            self._run(RegionWork(self.store), missing, 0, 2 * len(missing))
            found = self._tiles()
        contacts, missing_faces = self._faces()
        if missing_faces:
            total = len(missing) + len(missing_faces)
            self._run(RegionFacesWork(self.store, missing_faces), list(missing_faces), len(missing), total)
            contacts, missing_faces = self._faces()
        if missing_faces or len(found) < len(self.tiles):
            raise JobError("Tiles were staged again during the search for holes. Merge again.")
        return RegionGraph.of_tiles(self.grid, found, contacts)

    def stored(self) -> RegionGraph | None:
        found = self._tiles()
        if len(found) < len(self.tiles):
            return None
        contacts, missing_faces = self._faces()
        return None if missing_faces else RegionGraph.of_tiles(self.grid, found, contacts)

    def _run(self, work: Work[int], items: Sequence[int], done: int, total: int) -> None:
        control = self.control
        control.client = control.client() if callable(control.client) else control.client
        results = run(work, TileQueue(items), control.client)
        try:
            for _ in results:
                done += 1
                if control.progress is not None:
                    control.progress(done, total)
                if control.canceled.is_set():
                    raise RegionSearchCanceled(
                        "The search for holes was canceled. It resumes when holes are filled again."
                    )
        finally:
            results.close()

    def _tiles(self) -> dict[int, TileRegions]:
        tables = ((index, self.store.load(index, stamp)) for index, stamp in self.stamps.items())
        return {index: table for index, table in tables if table is not None}

    def _faces(self) -> tuple[list[Contacts], dict[int, dict[int, int]]]:
        """Contacts across faces, and the faces without valid contacts."""
        contacts: list[Contacts] = []
        missing: dict[int, dict[int, int]] = {}
        for index in self.tiles:
            stored = self.store.load_faces(index)
            for axis, other in self._next(index).items():
                own_stamp, other_stamp, pairs = stored.get(axis, (None, None, None))
                if pairs is not None and (own_stamp, other_stamp) == (self.stamps[index], self.stamps[other]):
                    contacts.append((index, other, pairs))
                else:
                    missing.setdefault(index, {})[axis] = other
        return contacts, missing

    def _next(self, index: int) -> dict[int, int]:
        """The next staged tile along each axis that has one."""
        found = {}
        for axis in range(self.grid.separate_axes, self.grid.ndim):
            other = self.grid.neighbor(index, [int(a == axis) for a in range(self.grid.ndim)])
            if other is not None and other in self.stamps:
                found[axis] = other
        return found
