"""Work for each tile: segment and stage it, and compare it with its neighbors."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from napari_blockbuster.execution.time_limit import TileTimeoutError, raise_if_it_hung, time_limit
from napari_blockbuster.execution.turns import ModelUse, exclusive
from napari_blockbuster.execution.work import R, Work
from napari_blockbuster.geometry.tiles import Neighbor, TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.gpus import gpu_busy
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.models.base import Model
from napari_blockbuster.models.loaded_model import load_once
from napari_blockbuster.models.networks.memory import OUT_OF_MEMORY, free_memory, is_out_of_memory
from napari_blockbuster.models.planes import begun, plane_of
from napari_blockbuster.stage.records.records import TileFailure, TileRecord
from napari_blockbuster.stage.seams.evidence import close_seams, compare_missing

from .claims import Claim
from .staging import check_folder, stage_labels, warm_up
from .store import StageStore

__all__ = ["SURE", "CompareWork", "PixelWork", "StageWork", "allowed_attempts"]

T = TypeVar("T")


@dataclass
class PixelWork(Work[R]):
    """Base of works that run a model on tiles: gives each tile its pixels."""

    takes_turns: ClassVar[bool] = True

    grid: TileGrid
    model: Model
    source: ImageSource | None
    """None if the pixels are sent with each task."""
    _local_source: ImageSource | None = field(repr=False)
    plane: int | None = field(init=False, repr=False)
    """Axis of a tile that the model does not see (see `napari_blockbuster.models.planes`)."""

    def __post_init__(self) -> None:
        self.plane = plane_of(self.source or self._local_source, self.model)

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


class _Clock:
    """Time limit of one tile. It runs while the tile is read and segmented, not while it waits for its turn."""

    def __init__(self, limit: float | None, note: Path | None = None) -> None:
        self.seconds = 0.0
        self._limit, self._note = limit, note

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            if self._limit is None or self._note is None:
                yield
            else:
                with time_limit(self._limit - self.seconds, self._note):
                    yield
        finally:
            self.seconds += time.perf_counter() - began


class _Ready(NamedTuple):
    """A tile that this process has claimed, with its pixels; None if the tile is staged already.

    Attributes
    ----------
    pixels : numpy.ndarray or None
        What the model gets: the read box, over the spatial axes.
    core : numpy.ndarray or None
        What is summed for each label: the core, and all measured channels. A copy, which no model can change.
    """

    claim: Claim
    clock: _Clock
    pixels: np.ndarray | None = None
    core: np.ndarray | None = None
    read: tuple[float, float] = (0.0, 0.0)
    """Begin and end of reading, by ``time.perf_counter``."""


@dataclass(frozen=True)
class _Reading:
    """Reads the pixels of a tile: the read box for the model, and other channels of the core, to measure them."""

    seen: Callable[[], np.ndarray]
    others: Callable[[], np.ndarray] | None = None

    def __call__(self) -> tuple[np.ndarray, np.ndarray | None]:
        return self.seen(), None if self.others is None else self.others()


Reading = Callable[[], tuple[np.ndarray, np.ndarray | None]]


@dataclass
class StageWork(PixelWork[TileRecord | TileFailure]):
    """Segment and stage tiles, and compare them with the neighbors that are staged already."""

    store: StageStore
    time_limit: float | None = None
    """Seconds for one tile; in worker processes only."""
    owner: Owner | None = None
    """The run that sends the tiles. None: nobody else can want them (a test)."""
    others: ImageSource | None = None
    """Channels that are measured and that the model does not see. None if there are none, or their pixels are sent."""
    _local_others: ImageSource | None = field(default=None, repr=False)
    use: ModelUse = field(default_factory=ModelUse, init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        store: StageStore,
        model: Model,
        source: ImageSource,
        time_limit: float | None = None,
        owner: Owner | None = None,
        others: ImageSource | None = None,
    ) -> StageWork:
        sent = source.shippable and (others is None or others.shippable)
        return cls(
            store.grid,
            model,
            source if sent else None,
            source,
            store,
            time_limit,
            owner,
            others if sent else None,
            others,
        )

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_local_others": None}

    @property
    def folder(self) -> Path:
        return self.store.folder

    @property
    def required_model(self) -> Model:
        return self.model

    def warm_up(self) -> None:
        source = self.source or self._local_source
        warm_up(self.grid.ndim - self.grid.separate_axes, np.uint16 if source is None else source.dtype)

    def ahead(self, item: int) -> Reading:  # type: ignore[override]
        if self.store.is_staged(item):
            return _never_read
        others = self._local_others
        return _Reading(super().ahead(item), None if others is None else others.prefetch(self.grid[item].core).result)

    def ship(self, item: int) -> Reading | None:  # type: ignore[override]
        seen, others = super().ship(item), self._local_others
        if seen is None:
            return None
        return _Reading(seen, None if others is None else others.part(self.grid[item].core).read)

    def reader(self, item: int, payload: Reading | None) -> Reading:  # type: ignore[override]
        if payload is not None:
            return payload
        others = self.others
        read = None if others is None else functools.partial(others.read, self.grid[item].core)
        return _Reading(super().reader(item, None), read)

    def prepare(self, item: int, payload: Reading | None) -> _Ready:
        """Claim a tile and read its pixels."""
        claim = self._claim(item)
        try:
            if self.store.is_staged(item):
                return _Ready(claim, _Clock(None))
            check_folder(self.store)
            clock = self._clock(item)
            began = time.perf_counter()
            with clock.running():
                pixels, others = self.reader(item, payload)()
            read = began, time.perf_counter()
            # The model gets the spatial axes only.
            pixels = pixels.reshape(pixels.shape[self.grid.separate_axes :])
            return _Ready(claim, clock, pixels, self._core(item, pixels, others), read)
        except BaseException:
            claim.release()
            raise

    def _core(self, item: int, pixels: np.ndarray, others: np.ndarray | None) -> np.ndarray:
        tile, separate_axes = self.grid[item], self.grid.separate_axes
        shape = tile.core.shape[separate_axes:]
        core = pixels[tile.trim[separate_axes:]]
        if others is None:
            return core.copy()
        return np.concatenate([core.reshape(*shape, -1), others.reshape(*shape, -1)], axis=-1)

    def drop(self, prepared: _Ready) -> None:
        prepared.claim.release()

    def __call__(self, item: int, prepared: _Ready) -> Callable[[], TileRecord | TileFailure]:
        claim, clock, pixels, core, read = prepared
        if pixels is None:
            return functools.partial(self._known, item, claim)
        try:
            # The time for loading a large network does not count.
            segmenter = load_once(self.model)
            before = network_tiles(segmenter)
            with self.use.turn(*read) as turn, clock.running():
                rest = self._freeing(functools.partial(begun, segmenter, pixels, self.plane))
            costs = {
                "turn_seconds": turn.seconds,
                "read_seconds": read[1] - read[0],
                "read_wait": turn.read_wait,
                "write_wait": turn.write_wait,
                "other_wait": turn.other_wait,
                "network_tiles": network_tiles(segmenter) - before,
                "gpu_busy": gpu_busy(),
            }
            return functools.partial(self._finish, item, claim, clock, rest, core, costs)
        except BaseException:
            claim.release()
            raise

    def _claim(self, item: int) -> Claim:
        """Wait for a process that still segments this tile for an earlier driver."""
        with writing_to(self.store.folder):
            is_staged = functools.partial(self.store.is_staged, item)
            return Claim.take(self.store.claim_file(item), is_staged, self.time_limit)

    def _clock(self, item: int) -> _Clock:
        note = self.store.hang_note(item)
        if self.time_limit is not None:
            raise_if_it_hung(self.time_limit, note)
        return _Clock(self.time_limit, note)

    def _freeing(self, run: Callable[[], T]) -> T:
        try:
            return run()
        except Exception as error:
            if is_out_of_memory(error):
                # The next attempt may run in this process.
                free_memory()
            raise

    def _known(self, item: int, claim: Claim) -> TileRecord:
        try:
            return self.store.record(item)
        finally:
            claim.release()

    def _finish(
        self,
        item: int,
        claim: Claim,
        clock: _Clock,
        rest: Callable[[], np.ndarray],
        core: np.ndarray | None,
        costs: dict[str, Any],
    ) -> TileRecord:
        """Complete the labels without the device, and stage them."""
        try:
            began = time.perf_counter()
            try:
                with clock.running():
                    labels = self._freeing(rest)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                # Once more, while the model does not compute: another tile may have taken the memory.
                with exclusive(), clock.running():
                    labels = rest()
            costs["model_seconds"] = costs["turn_seconds"] + time.perf_counter() - began
            name = self.model.display_name
            with self.use.writing():
                staging = stage_labels(
                    self.store, self.grid[item], labels, name, pixels=core, seconds=clock.seconds, costs=costs
                )
                del labels, rest, core
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


def network_tiles(segmenter: Any) -> int:
    """Return how many network tiles a segmenter has computed; 0 if it does not count them."""
    return int(getattr(segmenter, "network_tiles", 0))


def _never_read() -> tuple[np.ndarray, np.ndarray | None]:
    raise AssertionError("a staged tile needs no pixels")


@dataclass
class CompareWork(Work[np.ndarray]):
    """Compare pairs of staged tiles that were not compared because their run was interrupted."""

    store: StageStore
    pairs: dict[int, list[Neighbor]]
    keep: Owner | None = None
    """Writes the evidence to the stage folder. None: it is not written."""

    @property
    def folder(self) -> Path:
        return self.store.folder

    def ahead(self, item: int) -> list[Neighbor]:
        return self.pairs[item]

    ship = ahead

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"pairs": {}}

    def __call__(self, item: int, payload: list[Neighbor]) -> Callable[[], np.ndarray]:
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
