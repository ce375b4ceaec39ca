"""Running work on tiles: here, or on a process cluster, with a bounded number of tiles in flight.

The same `Work` runs in both places and gives the same bytes; what differs is only who calls it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from napari_blockbuster.job.settings import JobError
from napari_blockbuster.machine.freed_memory import keep_freed_memory

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "BoundWork",
    "ClusterLostError",
    "RetryingWork",
    "TileQueue",
    "Work",
    "WorkerDiedError",
    "run",
    "wants_retry",
]

R = TypeVar("R", covariant=True)

TILES_PER_WORKER = 2
"""Tiles sent to a worker at a time: one runs while the next one waits, so that no worker idles for the driver."""


class Work(Protocol[R]):
    """Something to do for each of many items (tiles, or blocks), in two phases so that input and output overlap.

    A work is sent to each worker once, as one pickle; an item and its payload are sent with each task. A work may have two
    more attributes, which workers are checked for before they get an item: ``folder``, a folder of the job that they must see
    and be able to write to, and ``required_model``, a model that they must be able to load.
    """

    def ahead(self, item: int) -> Any:
        """Payload for an item that will run here soon; may start reading."""

    def ship(self, item: int) -> Any:
        """Payload for an item that will run in another process: small, and picklable."""

    def __call__(self, item: int, payload: Any) -> Callable[[], R]:
        """Do the work; the returned callable waits for what is still being written and gives the result."""

    def lost(self, item: int, error: BaseException) -> R:
        """The result for an item whose worker died, or whose work raised; raises what must stop the run."""


class RetryingWork(Work[R], Protocol[R]):
    """A work whose items may be tried again."""

    def retry(self, result: Any, attempts: int) -> bool:
        """Whether an item with this result, after so many attempts, is tried again."""


class BoundWork(Work[R], Protocol[R]):
    """A work that must not go on in the background once its run has ended: it writes to a folder that is then deleted."""

    outlives_no_run: bool


class ClusterLostError(JobError):
    """The scheduler is gone, or all its workers are."""


class WorkerDiedError(RuntimeError):
    """A tile whose worker died each time it was tried."""


def wants_retry(work: Any, result: Any, attempts: int) -> bool:
    """Whether a work asks for another attempt; one without `RetryingWork.retry` never does."""
    retry = getattr(work, "retry", None)
    return retry is not None and bool(retry(result, attempts))


# -------------------------------------------------------------------------------------------------------------- queue
class TileQueue:
    """Items waiting to run. Neighbours stay together on one worker, and some items may be asked for first.

    Each worker eats its own stretch of the order; an idle one takes the second half of the longest stretch left.
    Thread-safe: a viewer may call `prefer` while a run takes.

    Attributes
    ----------
    waits_for : str
        What a run on the queue waits for before it can send an item (a worker, say); "" while it gets on.
    """

    def __init__(self, order: Iterable[int]) -> None:
        self._order = list(order)
        self._waiting = set(self._order)
        self._taken: set[int] = set()
        self._sent: list[int] = []
        self._first: deque[int] = deque()
        self._spans = {"": (0, len(self._order))} if self._order else {}
        self._lock = threading.Lock()
        self.waits_for = ""

    def __len__(self) -> int:
        return len(self._waiting)

    def prefer(self, items: Iterable[int]) -> None:
        """Run these first, in this order, instead of any preferred before; items that are not waiting are ignored."""
        with self._lock:
            self._first = deque(i for i in items if i in self._waiting)

    def add(self, items: Iterable[int]) -> None:
        """Append items (to be tried again)."""
        with self._lock:
            for item in items:
                if item not in self._waiting:
                    self._waiting.add(item)
                    self._first.append(item)

    def take(self, worker: str = "") -> int | None:
        """The next item for a worker, or None if nothing waits."""
        with self._lock:
            item = self._take_first()
            if item is None:
                item = self._take_span(worker)
            if item is not None:
                self._waiting.discard(item)
                self._taken.add(item)
                self._sent.append(item)
            return item

    def spread(self, n: int) -> list[int]:
        """At most `n` items that wait, as far from each other and from the next one as the order allows."""
        with self._lock:
            left = [item for item in self._order if item in self._waiting]
            return [left[(k * len(left) - 1) // n] for k in range(1, n + 1)] if len(left) >= n else left

    def taken(self) -> set[int]:
        """Items handed out so far."""
        with self._lock:
            return set(self._taken)

    def sent(self, start: int) -> list[int]:
        """Items in the order in which they were handed out, without the first `start` of them."""
        with self._lock:
            return self._sent[start:]

    def _take_first(self) -> int | None:
        while self._first:
            item = self._first.popleft()
            if item in self._waiting:
                return item
        return None

    def _take_span(self, worker: str) -> int | None:
        while (span := self._spans.pop(worker, None) or self._steal()) is not None:
            start, stop = span
            if start + 1 < stop:
                self._spans[worker] = (start + 1, stop)
            if self._order[start] in self._waiting:
                return self._order[start]
        return None

    def _steal(self) -> tuple[int, int] | None:
        if not self._spans:
            return None
        owner = max(self._spans, key=lambda name: self._spans[name][1] - self._spans[name][0])
        start, stop = self._spans.pop(owner)
        # What nobody owns yet goes whole; of another worker's stretch, the half that it would reach last.
        middle = start if owner == "" else (start + stop) // 2
        if start < middle:
            self._spans[owner] = (start, middle)
        return middle, stop


# ---------------------------------------------------------------------------------------------------------------- run
def run(
    work: Work[R], waiting: TileQueue, client: Client | None, heartbeat: float | None = None
) -> Generator[R | None, None, None]:
    """Run work on all waiting items and yield the results as they land.

    Parameters
    ----------
    work : Work
    waiting : TileQueue
    client : distributed.Client or None
        None: one item at a time, in this thread.
    heartbeat : float, optional
        Yield None whenever this many seconds passed without a result, so that a caller can look up. On a cluster only.

    Notes
    -----
    Closing the iterator stops the run: items that have not started are dropped, running ones end by themselves and
    still keep what they finish.
    """
    if client is None:
        return _run_here(work, waiting)
    from .cluster import check_is_usable
    from .cluster_run import ClusterRun

    check_is_usable(client)
    return ClusterRun(work, waiting, client, heartbeat).results()


def _run_here(work: Work[R], waiting: TileQueue) -> Generator[R, None, None]:
    attempts: Counter[int] = Counter()
    with keep_freed_memory():
        # The second time round, if at all, is for items that failed at the very end.
        while waiting:
            for item, result in _pass_here(work, waiting):
                attempts[item] += 1
                if wants_retry(work, result, attempts[item]):
                    waiting.add([item])
                else:
                    yield result


def _pass_here(work: Work[R], waiting: TileQueue) -> Iterator[tuple[int, R]]:
    """One item computes while the one before is written and the one after is read."""
    with ThreadPoolExecutor(1, "blockbuster-finish") as finisher:
        unfinished: deque[tuple[int, ThreadFuture[R]]] = deque()
        item = waiting.take()
        payload = _ahead(work, item)
        while item is not None:
            following = waiting.take()
            upcoming = _ahead(work, following)
            began = time.perf_counter()
            try:
                if isinstance(payload, _NotRead):
                    raise payload.error
                unfinished.append((item, finisher.submit(work(item, payload))))
            except Exception as error:
                yield item, work.lost(item, error)
            # Overlap is worth it for quick work only; a slow model's tile is reported before the next one starts.
            slow = time.perf_counter() - began > 1.0
            while unfinished and (slow or len(unfinished) > 1 or unfinished[0][1].done()):
                yield _finished(work, *unfinished.popleft())
            item, payload = following, upcoming
        while unfinished:
            yield _finished(work, *unfinished.popleft())


class _NotRead(NamedTuple):
    error: Exception


def _ahead(work: Work[R], item: int | None) -> Any:
    """An item's payload; an error waits until it is the item's turn."""
    try:
        return work.ahead(item) if item is not None else None
    except Exception as error:
        return _NotRead(error)


def _finished(work: Work[R], item: int, future: ThreadFuture[R]) -> tuple[int, R]:
    try:
        return item, future.result()
    except Exception as error:
        return item, work.lost(item, error)
