"""Work for each tile: segment and stage it, and compare it with its neighbors."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.execution.time_limit import TileTimeoutError, raise_if_it_hung, time_limit
from napari_blockbuster.execution.work import R, Work
from napari_blockbuster.geometry.tiles import Neighbour, TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.models.base import Model
from napari_blockbuster.models.loaded_model import load_once
from napari_blockbuster.models.networks.memory import OUT_OF_MEMORY, free_memory, is_out_of_memory

from .claims import Claim
from .records import TileFailure, TileRecord
from .seams import close_seams, compare_missing
from .staging import StagingTile, stage_tile
from .store import StageStore

__all__ = ["SURE", "CompareWork", "PixelWork", "StageWork", "allowed_attempts"]


@dataclass
class PixelWork(Work[R]):
    """Base of works that run a model on tiles: gives each tile its pixels."""

    grid: TileGrid
    model: Model
    source: ImageSource | None
    """None if the pixels are sent with each task."""
    _local_source: ImageSource | None = field(repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_local_source": None}

    @property
    def functions(self) -> list[Any]:
        """Functions of the user's that must travel to a worker."""
        return self.model.functions

    def ahead(self, item: int) -> Callable[[], np.ndarray]:
        assert self._local_source is not None
        reading: Callable[[], np.ndarray] = self._local_source.prefetch(self.grid[item].read).result
        return reading

    def ship(self, item: int) -> Callable[[], np.ndarray] | None:
        if self.source is not None:
            return None
        assert self._local_source is not None
        pixels: Callable[[], np.ndarray] = self._local_source.part(self.grid[item].read).read
        return pixels

    def reader(self, item: int, payload: Callable[[], np.ndarray] | None) -> Callable[[], np.ndarray]:
        """Return a function that reads the pixels of a tile: its payload, or a read from the image."""
        if payload is not None:
            return payload
        assert self.source is not None
        return functools.partial(self.source.read, self.grid[item].read)


@dataclass
class StageWork(PixelWork[TileRecord | TileFailure]):
    """Segment and stage tiles, and compare them with the neighbors that are staged already."""

    store: StageStore
    time_limit: float | None = None
    """Seconds for one tile; in worker processes only."""
    owner: Owner | None = None
    """The run that sends the tiles. None: nobody else can want them (a test)."""

    @classmethod
    def of(
        cls,
        store: StageStore,
        model: Model,
        source: ImageSource,
        time_limit: float | None = None,
        owner: Owner | None = None,
    ) -> StageWork:
        return cls(store.grid, model, source if source.shippable else None, source, store, time_limit, owner)

    @property
    def folder(self) -> Path:
        return self.store.folder

    @property
    def required_model(self) -> Model:
        return self.model

    def ahead(self, item: int) -> Callable[[], np.ndarray]:
        return _never_read if self.store.is_staged(item) else super().ahead(item)

    def __call__(self, item: int, payload: Callable[[], np.ndarray] | None) -> Callable[[], TileRecord | TileFailure]:
        claim = self._claim(item)
        try:
            with self._in_time(item):
                tile, read = self.grid[item], self.reader(item, payload)
                staging = stage_tile(self.store, tile, read, self._segment, self.model.display_name)
        except BaseException:
            claim.release()
            raise
        return functools.partial(self._finish, staging, claim)

    def _claim(self, item: int) -> Claim:
        """Wait for a process that still segments this tile for an earlier driver."""
        with writing_to(self.store.folder):
            is_staged = functools.partial(self.store.is_staged, item)
            return Claim.take(self.store.claim_file(item), is_staged, self.time_limit)

    def _in_time(self, item: int) -> contextlib.AbstractContextManager[None]:
        if self.time_limit is None:
            return contextlib.nullcontext()
        note = self.store.hang_note(item)
        raise_if_it_hung(self.time_limit, note)
        # The time for loading a large network does not count.
        load_once(self.model)
        return time_limit(self.time_limit, note)

    def _segment(self, pixels: np.ndarray) -> np.ndarray:
        try:
            return load_once(self.model)(pixels)
        except Exception as error:
            if is_out_of_memory(error):
                # The next attempt may run in this process.
                free_memory()
            raise

    def _finish(self, staging: StagingTile | TileRecord, claim: Claim) -> TileRecord:
        try:
            if isinstance(staging, TileRecord):
                return staging
            record = staging.finish()
            # Evidence of a run that was taken over may name tiles that were replaced since: it is computed again.
            close_seams(self.store, record.index, staging.bands, self.owner)
            return record
        finally:
            claim.release()

    def lost(self, item: int, error: BaseException) -> TileFailure:
        """Record the reason for the failure. The run continues, except after a storage error."""
        if isinstance(error, JobError):
            raise error
        failure = TileFailure.of(item, error)
        self.store.fail(failure)
        return failure

    def hang(self, item: int) -> BaseException | None:
        if self.time_limit is None:
            return None
        try:
            raise_if_it_hung(self.time_limit, self.store.hang_note(item))
        except TileTimeoutError as error:
            return error
        return None

    def retry(self, result: TileRecord | TileFailure, attempts: int) -> bool:
        """Retry failures that another attempt may avoid."""
        return isinstance(result, TileFailure) and attempts < allowed_attempts(result.error)


def _never_read() -> np.ndarray:
    raise AssertionError("a staged tile needs no pixels")


@dataclass
class CompareWork(Work[np.ndarray]):
    """Compare pairs of staged tiles that were not compared because their run was interrupted."""

    store: StageStore
    pairs: dict[int, list[Neighbour]]
    keep: Owner | None = None
    """Writes the evidence to the stage folder. None: it is not written."""

    @property
    def folder(self) -> Path:
        return self.store.folder

    def ahead(self, item: int) -> list[Neighbour]:
        return self.pairs[item]

    ship = ahead

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"pairs": {}}

    def __call__(self, item: int, payload: list[Neighbour]) -> Callable[[], np.ndarray]:
        return functools.partial(compare_missing, self.store, payload, self.keep)

    def lost(self, item: int, error: BaseException) -> np.ndarray:
        raise error


SURE = ("LabelsError", "WorkerDiedError", "ClaimedError")
"""Failures that another attempt would only repeat: wrong labels, a tile that has killed several workers, and a tile that a
process of another driver holds."""


def allowed_attempts(error: str) -> int:
    """Return how often a tile that fails with an exception of this name is tried in one run."""
    if error in SURE:
        return 1
    return 3 if error in OUT_OF_MEMORY else 2
