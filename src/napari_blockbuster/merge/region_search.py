"""The pass over the tiles that finds the regions of their background, when holes are to be filled for the first time.

Like staging, it runs here or on a cluster with a bounded number of tiles in flight, and goes on where it was after a stop.
Merging anew with other settings needs no pass: what touches what does not depend on the merge.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.execution.work import Work
from napari_blockbuster.machine.disk import damage_named, finish_writes, writing_to
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.stage.region_labeling import regions_of, touching_across
from napari_blockbuster.stage.regions import RegionStore, TileRegions
from napari_blockbuster.stage.store import StageStore

from .holes import Regions

if TYPE_CHECKING:
    from distributed import Client

    Clients = Client | Callable[[], Client] | None

__all__ = ["LookingCancelled", "RegionCache", "RegionFacesWork", "RegionWork"]


class LookingCancelled(JobError):
    """Looking for holes was cancelled."""


@dataclass
class RegionWork(Work[int]):
    """Number the background of staged tiles."""

    store: RegionStore

    @property
    def folder(self) -> Path:
        """What workers must see."""
        return self.store.stage.folder

    def ahead(self, item: int) -> Any:
        # The stamp comes first: of a tile that is staged again meanwhile, what follows is then known to be stale.
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
        # Its voxels of before must not be taken for those that its table describes, wherever this is interrupted.
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
    """Find which regions touch across the faces between a tile and those that come after it."""

    store: RegionStore
    neighbours: dict[int, dict[int, int]]
    """For each tile, the tile after it along some axes."""

    @property
    def folder(self) -> Path:
        """What workers must see."""
        return self.store.stage.folder

    def ahead(self, item: int) -> dict[int, int]:
        return self.neighbours[item]

    ship = ahead

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"neighbours": {}}

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


class RegionCache:
    """The regions of a job's staged tiles: made where they are missing, and kept in memory while the tiles stay the same."""

    def __init__(self, stage: StageStore) -> None:
        self._store = RegionStore(stage)
        self._known: tuple[frozenset[int], Regions] | None = None

    def forget(self) -> None:
        """Look at the disk again (tiles were staged again)."""
        self._known = None

    def regions(
        self,
        staged: frozenset[int],
        client: Clients,
        cancelled: threading.Event,
        progress: Callable[[int, int], None] | None,
    ) -> Regions:
        """The regions of the staged tiles; those of tiles that have none yet are found now, which reads their labels.

        Parameters
        ----------
        staged : frozenset of int
        client : distributed.Client or callable, optional
            Or a function that makes one: called only if tiles have to be read.
        cancelled : threading.Event
        progress : callable, optional
            ``progress(done, total)`` in tiles, each of which is looked at twice.

        Raises
        ------
        LookingCancelled
            If `cancelled` was set meanwhile.
        JobError
            If a staged tile is damaged.
        StoreError
            If the disk is full, read-only or gone.
        """
        if self._known is None or self._known[0] != staged:
            with writing_to(self._store.folder):
                self._store.create()
            self._known = staged, _Pass(self._store, staged, client, cancelled, progress).result()
        return self._known[1]


class _Pass:
    """One look at the regions of some tiles; what is missing or stale is made."""

    def __init__(
        self,
        store: RegionStore,
        staged: frozenset[int],
        client: Clients,
        cancelled: threading.Event,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.store, self.grid = store, store.stage.grid
        self.tiles = sorted(staged)
        self.client, self.cancelled, self.progress = client, cancelled, progress
        with damage_named(store.stage.folder.parent):
            self.stamps = {index: store.stamp(index) for index in self.tiles}

    def result(self) -> Regions:
        found = self._tiles()
        missing = [index for index in self.grid.order() if index in self.stamps and index not in found]
        if missing:
            # Nearly every one of them is looked at once more, for its faces.
            self._run(RegionWork(self.store), missing, 0, 2 * len(missing))
            found = self._tiles()
        contacts, missing_faces = self._faces()
        if missing_faces:
            total = len(missing) + len(missing_faces)
            self._run(RegionFacesWork(self.store, missing_faces), list(missing_faces), len(missing), total)
            contacts, missing_faces = self._faces()
        if missing_faces or len(found) < len(self.tiles):
            raise JobError("tiles were staged again while holes were looked for; merge again")
        return self._assembled(found, contacts)

    def _run(self, work: Work[int], items: Sequence[int], done: int, total: int) -> None:
        self.client = self.client() if callable(self.client) else self.client
        results = run(work, TileQueue(items), self.client)
        try:
            for _ in results:
                done += 1
                if self.progress is not None:
                    self.progress(done, total)
                if self.cancelled.is_set():
                    raise LookingCancelled("looking for holes was cancelled; it goes on when they are filled next")
        finally:
            results.close()

    def _tiles(self) -> dict[int, TileRegions]:
        tables = ((index, self.store.load(index, stamp)) for index, stamp in self.stamps.items())
        return {index: table for index, table in tables if table is not None}

    def _faces(self) -> tuple[list[tuple[int, int, np.ndarray]], dict[int, dict[int, int]]]:
        """Contacts as (tile, next tile, pairs), and the faces for which there are none (any more)."""
        contacts: list[tuple[int, int, np.ndarray]] = []
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
        """The staged tile that comes after a tile, along each axis that has one."""
        found = {}
        for axis in range(self.grid.separate_axes, self.grid.ndim):
            other = self.grid.neighbour(index, [int(a == axis) for a in range(self.grid.ndim)])
            if other is not None and other in self.stamps:
                found[axis] = other
        return found

    def _open_faces(self, index: int) -> int:
        """Bits of the faces of a tile behind which nothing is known."""
        bits = 0
        for axis in range(self.grid.separate_axes, self.grid.ndim):
            for side, step in enumerate((-1, 1)):
                other = self.grid.neighbour(index, [step * (a == axis) for a in range(self.grid.ndim)])
                if other is None or other not in self.stamps:
                    bits |= 1 << (2 * axis + side)
        return bits

    def _assembled(self, found: dict[int, TileRegions], contacts: list[tuple[int, int, np.ndarray]]) -> Regions:
        """The tables of all tiles with one numbering."""
        labels, pieces = np.zeros((2, len(self.grid)), np.int64)
        for index, table in found.items():
            labels[index], pieces[index] = table.n_labels, len(table.parents)
        n_labels = int(labels.sum())
        n_regions = n_labels + int(pieces.sum())
        first_label, first_piece = np.cumsum(labels) - labels, n_labels + np.cumsum(pieces) - pieces
        # Half the memory, where the numbers fit: these are most of what is held.
        kind = np.int32 if n_regions < 2**31 else np.int64

        def numbered(index: int, local: np.ndarray) -> np.ndarray:
            shift = np.where(local <= labels[index], first_label[index], first_piece[index] - labels[index])
            numbers: np.ndarray = (local + shift - 1).astype(kind)
            return numbers

        is_open, sizes = np.zeros(n_regions, bool), np.zeros(n_regions, np.int64)
        pairs = [np.zeros((0, 2), kind)]
        for index, table in found.items():
            own = numbered(index, np.arange(1, len(table.sizes) + 1))
            is_open[own] = table.faces & self._open_faces(index) > 0
            sizes[own] = table.sizes
            pairs.append(numbered(index, table.touching))
        for index, other, across in contacts:
            pairs.append(np.stack([numbered(index, across[:, 0]), numbered(other, across[:, 1])], axis=-1))
        local_parents = np.concatenate([np.zeros(0, np.uint32), *(table.parents for table in found.values())])
        parents = np.where(local_parents > 0, local_parents + np.repeat(first_label, pieces), 0)
        is_background = np.concatenate([np.zeros(n_labels, bool), local_parents == 0])
        every = np.concatenate(pairs)
        with_background = is_background[every].any(axis=1)
        return Regions(
            n_labels=n_labels,
            offsets=np.concatenate([[0], np.cumsum(pieces)]),
            parents=parents,
            local_parents=local_parents,
            sizes=sizes,
            is_open=is_open,
            touching=every[with_background],
            labels_touching=every[~with_background],
        )
