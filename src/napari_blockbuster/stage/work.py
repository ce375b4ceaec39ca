"""What runs for each tile: staging it, comparing it with its neighbours, writing it merged.

Each class is a `napari_blockbuster.execution.run.Work`: sent to a worker once, called for many tiles.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.execution.time_limit import say_if_it_hung, time_limit
from napari_blockbuster.geometry.tiles import Neighbour, TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.job.settings import JobError
from napari_blockbuster.machine.disk import damage_named, writing_to
from napari_blockbuster.merge.mapping import Merge
from napari_blockbuster.models.base import Model, Segmenter
from napari_blockbuster.output.writer import LabelsWriter

from .attempts import allowed_attempts, segment_in_memory
from .claims import Claim
from .labels import lookup
from .records import TileFailure, TileRecord
from .regions import RegionStore
from .seams import close_seams, compare_missing
from .store import StageStore, StagingTile, stage_tile

__all__ = ["CompareWork", "PixelWork", "StageWork", "WriteBlockWork", "WriteTileWork"]


@dataclass
class PixelWork:
    """What works that run a model on tiles have in common: the model, and how a tile's pixels come to it."""

    grid: TileGrid
    model: Model
    source: ImageSource | None
    """None on a worker that gets its pixels with each task."""
    _local_source: ImageSource | None = field(repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_local_source": None}

    @property
    def functions(self) -> list[Any]:
        """Functions of the user's that must travel to a worker."""
        function = getattr(self.model, "function", None)
        return [] if function is None else [function]

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
        """What reads a tile's pixels: the payload that came with it, or the image."""
        if payload is not None:
            return payload
        assert self.source is not None
        return functools.partial(self.source.read, self.grid[item].read)


@dataclass
class StageWork(PixelWork):
    """Segment tiles: read, model, stage, marker, evidence with the neighbours that are staged already."""

    store: StageStore
    time_limit: float | None = None
    """Seconds for one tile; in worker processes only."""

    @classmethod
    def of(cls, store: StageStore, model: Model, source: ImageSource, time_limit: float | None = None) -> StageWork:
        return cls(store.grid, model, source if source.shippable else None, source, store, time_limit)

    @property
    def folder(self) -> Path:
        """What workers must see."""
        return self.store.folder

    @property
    def required_model(self) -> Model:
        """What workers must be able to load."""
        return self.model

    def ahead(self, item: int) -> Callable[[], np.ndarray]:
        return _never_read if self.store.is_staged(item) else super().ahead(item)

    def __call__(self, item: int, payload: Callable[[], np.ndarray] | None) -> Callable[[], TileRecord | TileFailure]:
        claim = self._claim(item)
        try:
            with self._in_time(item):
                tile, read = self.grid[item], self.reader(item, payload)
                staging = stage_tile(self.store, tile, read, self._segment, _name(self.model))
        except BaseException:
            claim.release()
            raise
        return functools.partial(self._finish, staging, claim)

    def _claim(self, item: int) -> Claim:
        """Wait for a process that works on this tile for a driver that is gone."""
        with writing_to(self.store.folder):
            is_staged = functools.partial(self.store.is_staged, item)
            return Claim.take(self.store.claim_file(item), is_staged, self.time_limit)

    def _in_time(self, item: int) -> contextlib.AbstractContextManager[None]:
        if self.time_limit is None:
            return contextlib.nullcontext()
        note = self.store.hang_note(item)
        say_if_it_hung(self.time_limit, note)
        # Loading a large network takes minutes and is no tile's fault.
        load_once(self.model)
        return time_limit(self.time_limit, note)

    def _segment(self, pixels: np.ndarray) -> np.ndarray:
        return segment_in_memory(load_once(self.model), pixels)

    def _finish(self, staging: StagingTile | TileRecord, claim: Claim) -> TileRecord:
        try:
            if isinstance(staging, TileRecord):
                return staging
            record = staging.finish()
            close_seams(self.store, record.index, staging.bands)
            return record
        finally:
            claim.release()

    def lost(self, item: int, error: BaseException) -> TileFailure:
        """Keep the reason beside the stage; the run goes on, unless it is the disk that failed."""
        if isinstance(error, JobError):
            raise error
        failure = TileFailure.of(item, error)
        self.store.fail(failure)
        return failure

    def retry(self, result: TileRecord | TileFailure, attempts: int) -> bool:
        """Once more for what may have been chance, twice for want of memory, never for what would be the same again."""
        return isinstance(result, TileFailure) and attempts < allowed_attempts(result.error)


def _never_read() -> np.ndarray:
    raise AssertionError("a staged tile needs no pixels")


def _name(model: Model) -> str:
    """What an error calls the model: a function by the name that its author gave it."""
    function = getattr(model, "function", None)
    if function is not None:
        return f"function {getattr(function, '__qualname__', type(function).__name__)!r}"
    return f"function {model.source!r}" if hasattr(model, "source") else f"model {model.family!r}"


_loaded: list[tuple[Model, Segmenter]] = []


def load_once(model: Model) -> Segmenter:
    """The model's segmenter, built on first use and kept for as long as this process runs the same model.

    One is kept, not more: two networks on one GPU would take the memory that the tiles need.
    """
    for known, segmenter in _loaded:
        if known is model or known == model:
            return segmenter
    segmenter = model.load()
    _loaded[:] = [(model, segmenter)]
    return segmenter


@dataclass
class CompareWork:
    """Compare pairs of staged tiles that no worker compared (their run was cut short)."""

    store: StageStore
    pairs: dict[int, list[Neighbour]]
    keep: bool = False
    """Whether the evidence is written beside the stage."""

    @property
    def folder(self) -> Path:
        """What workers must see."""
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


@dataclass
class WriteTileWork:
    """Relabel staged tiles and write them, with their share of the pyramid."""

    store: StageStore
    writer: LabelsWriter
    merged: Merge | None
    outlives_no_run = True

    @property
    def folder(self) -> Path:
        """What workers must see."""
        return self.store.folder

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"merged": None}

    def ship(self, item: int) -> tuple[np.ndarray, bool, Any]:
        assert self.merged is not None
        return self.merged.table(item), self.merged.fills(item), None

    def ahead(self, item: int) -> tuple[np.ndarray, bool, Any]:
        table, with_holes, _ = self.ship(item)
        return table, with_holes, self._read(item, with_holes)

    def _read(self, item: int, with_holes: bool) -> Any:
        """Start reading what the table is for: labels, or labels and pieces of background."""
        tile = self.store.grid[item]
        return RegionStore(self.store).read(tile) if with_holes else self.store.read_labels(tile)

    def __call__(self, item: int, payload: tuple[np.ndarray, bool, Any]) -> Callable[[], int]:
        table, with_holes, reading = payload
        tile = self.store.grid[item]
        with damage_named(self.store.folder.parent):
            merged = lookup(table, (reading or self._read(item, with_holes)).result())
        pending = self.writer.write_tile(tile, merged)
        return functools.partial(_wait, pending, item)

    def lost(self, item: int, error: BaseException) -> int:
        raise error


@dataclass
class WriteBlockWork:
    """Write blocks of the pyramid's coarse levels, from the level below."""

    writer: LabelsWriter
    blocks: list[Any]
    outlives_no_run = True

    def ahead(self, item: int) -> Any:
        return self.blocks[item]

    ship = ahead

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"blocks": []}

    def __call__(self, item: int, payload: Any) -> Callable[[], int]:
        self.writer.write_block(*payload)
        return lambda: item

    def lost(self, item: int, error: BaseException) -> int:
        raise error


def _wait(pending: Any, item: int) -> int:
    pending.result()
    return item
