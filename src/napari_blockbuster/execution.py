"""Running work on tiles: here, or on a process cluster, with a bounded number of tiles in flight.

The same `Work` runs in both places and gives the same bytes; what differs is only who calls it.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import cloudpickle

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["TileQueue", "Work", "run"]

R = TypeVar("R", covariant=True)

TILES_PER_WORKER = 2
"""Tiles sent to a worker at a time: one runs while the next one waits, so that no worker idles for the driver."""
PATIENCE = 120.0
"""Seconds without any worker after which a run gives up (a batch system may take a while to replace one)."""


class Work(Protocol[R]):
    """Something to do for each of many items (tiles, or blocks), in two phases so that input and output overlap.

    A work is sent to each worker once, as one pickle; an item and its payload are sent with each task.
    """

    def ahead(self, item: int) -> Any:
        """Payload for an item that will run here soon; may start reading."""

    def ship(self, item: int) -> Any:
        """Payload for an item that will run in another process: small, and picklable."""

    def __call__(self, item: int, payload: Any) -> Callable[[], R]:
        """Do the work; the returned callable waits for what is still being written and gives the result."""

    def lost(self, item: int, error: BaseException) -> R:
        """The result for an item whose worker died, or whose work raised."""


# -------------------------------------------------------------------------------------------------------------- queue
class TileQueue:
    """Items waiting to run. Neighbours stay together on one worker, and some items may be asked for first.

    Each worker eats its own stretch of the order; an idle one takes the second half of the longest stretch left. Thread-safe: a
    viewer may call `prefer` while a run takes.
    """

    def __init__(self, order: Iterable[int]) -> None:
        self._order = list(order)
        self._waiting = set(self._order)
        self._taken: set[int] = set()
        self._first: deque[int] = deque()
        self._spans = {"": (0, len(self._order))} if self._order else {}
        self._lock = threading.Lock()

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
            return item

    def taken(self) -> set[int]:
        """Items handed out so far."""
        with self._lock:
            return set(self._taken)

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
def run(work: Work[R], waiting: TileQueue, client: Client | None, heartbeat: float | None = None) -> Iterator[R | None]:
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
    Closing the iterator stops the run: items that have not started are dropped, running ones end by themselves and still
    keep what they finish.
    """
    return _run_here(work, waiting) if client is None else _ClusterRun(work, waiting, client, heartbeat).results()


def _run_here(work: Work[R], waiting: TileQueue) -> Iterator[R]:
    """One item computes while the one before is written and the one after is read."""
    with ThreadPoolExecutor(1, "blockbuster-finish") as finisher:
        unfinished: deque[tuple[int, ThreadFuture[R]]] = deque()
        item = waiting.take()
        payload = work.ahead(item) if item is not None else None
        while item is not None:
            following = waiting.take()
            upcoming = work.ahead(following) if following is not None else None
            began = time.perf_counter()
            try:
                unfinished.append((item, finisher.submit(work(item, payload))))
            except Exception as error:
                yield work.lost(item, error)
            # Overlap is worth it for quick work only; a slow model's tile is reported before the next one starts.
            slow = time.perf_counter() - began > 1.0
            while unfinished and (slow or len(unfinished) > 1 or unfinished[0][1].done()):
                yield _finished(work, *unfinished.popleft())
            item, payload = following, upcoming
        while unfinished:
            yield _finished(work, *unfinished.popleft())


def _finished(work: Work[R], item: int, future: ThreadFuture[R]) -> R:
    try:
        return future.result()
    except Exception as error:
        return work.lost(item, error)


# ------------------------------------------------------------------------------------------------------------ cluster
class _ClusterRun(Generic[R]):
    def __init__(self, work: Work[R], waiting: TileQueue, client: Client, heartbeat: float | None) -> None:
        self._work, self._waiting, self._client = work, waiting, client
        self._heartbeat = heartbeat
        self._name = f"blockbuster-{uuid.uuid4().hex[:12]}"
        self._landed: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        self._flying: dict[Any, tuple[int, str, Future[Any]]] = {}
        self._workers: list[str] = []
        self._looked = 0.0
        self._seen = time.monotonic()
        self._suspects: set[int] = set()
        self._alone: int | None = None

    def results(self) -> Iterator[R | None]:
        from ._worker import WorkPlugin

        self._client.register_plugin(WorkPlugin(self._name, _pickle(self._work)), name=self._name)
        try:
            while self._fill():
                try:
                    future = self._landed.get(timeout=self._heartbeat or 1.0)
                except queue.Empty:
                    if self._heartbeat:
                        yield None
                    continue
                result = self._land(future)
                if result is not None:
                    yield result
        finally:
            self._stop()

    def _fill(self) -> bool:
        """Send items until every worker has its share; False once nothing waits or flies."""
        self._look_at_workers()
        load = dict.fromkeys(self._workers, 0)
        for _, worker, _ in self._flying.values():
            if worker in load:
                load[worker] += 1
        for share in range(TILES_PER_WORKER):
            for worker in self._workers:
                if load[worker] <= share and len(self._flying) < TILES_PER_WORKER * len(self._workers):
                    item = self._next(worker)
                    if item is None:
                        break
                    load[worker] += 1
                    self._send(item, worker)
        return bool(self._flying or self._waiting or self._suspects)

    def _next(self, worker: str) -> int | None:
        item = self._waiting.take(worker)
        if item is None and self._suspects and not self._flying:
            # Last, and one at a time: a tile that kills its worker must not take its neighbours with it again.
            item = self._suspects.pop()
            self._alone = item
        return item

    def _send(self, item: int, worker: str) -> None:
        from ._worker import do

        future = self._client.submit(
            do,
            self._name,
            item,
            self._work.ship(item),
            key=f"{self._name}-{item}-{uuid.uuid4().hex[:6]}",
            workers=[worker],
            allow_other_workers=True,
            pure=False,
        )
        self._flying[future.key] = (item, worker, future)
        future.add_done_callback(self._landed.put)

    def _land(self, future: Future[Any]) -> R | None:
        item, _, _ = self._flying.pop(future.key)
        if future.status == "finished":
            result: R = future.result()
            return result
        from distributed import KilledWorker

        error = future.exception() if future.status == "error" else RuntimeError("the task was cancelled by the cluster")
        if isinstance(error, KilledWorker) and self._alone != item:
            self._suspects.add(item)
            return None
        return self._work.lost(item, error)

    def _look_at_workers(self) -> None:
        now = time.monotonic()
        if self._workers and now - self._looked < 1.0:
            return
        self._workers = list(self._client.nthreads())
        self._looked = now
        if self._workers:
            self._seen = now
        elif now - self._seen > PATIENCE:
            raise RuntimeError(
                f"the cluster has had no worker for {PATIENCE:.0f} s; finished tiles are kept: "
                "bring workers back and resume the job"
            )
        else:
            time.sleep(0.1)

    def _stop(self) -> None:
        futures = [future for _, _, future in self._flying.values()]
        # A lost scheduler must not turn the end of a run into another error.
        with contextlib.suppress(Exception):
            if futures:
                self._client.cancel(futures, force=True)
            self._client.unregister_worker_plugin(self._name)


def _pickle(work: Any) -> bytes:
    """Pickle a work; what it uses from modules that are not installed (scripts, notebooks) goes along by value."""
    modules = [m for m in _users_modules(work) if m.__name__ not in cloudpickle.list_registry_pickle_by_value()]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        blob: bytes = cloudpickle.dumps(work)
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    return blob


def _users_modules(work: Any) -> list[Any]:
    functions = getattr(work, "functions", ())
    found = []
    for function in functions:
        module = sys.modules.get(getattr(function, "__module__", None) or "")
        file = getattr(module, "__file__", None)
        if module is not None and file and not _is_installed(Path(file)):
            found.append(module)
    return found


def _is_installed(file: Path) -> bool:
    import sysconfig

    paths = sysconfig.get_paths()
    roots = [Path(paths[key]).resolve() for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    return any(file.resolve().is_relative_to(root) for root in [*roots, Path(__file__).parent.resolve()])
