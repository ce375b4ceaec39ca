"""A run on a process cluster: a window of items in flight, and what is done when workers or the scheduler die."""

from __future__ import annotations

import contextlib
import functools
import queue
import time
import uuid
from collections import Counter, deque
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from napari_blockbuster.machine.errors import JobError, WorkerDiedError

from . import waits
from .admission import LOADING, Admission
from .queue import TileQueue
from .serialization import pickle_work
from .work import Work, wants_retry

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["TILES_PER_WORKER", "ClusterRun"]

R = TypeVar("R")

STOP = 30.0
"""Seconds for the scheduler to take note of the end of a run."""
STRANDED_TIMES = 2
"""How often an item may be on a worker when it dies, and no other is left, before it is taken for the cause."""
ENDING = 30.0
"""Seconds for which the end of a run waits for items that are running, if they write to a folder that goes."""
CANCELLED_TIMES = 5
"""How often an item that the cluster dropped is sent again."""


class ClusterRun(Generic[R]):
    """One call of `napari_blockbuster.execution.run.run` on a cluster."""

    def __init__(self, work: Work[R], waiting: TileQueue, client: Client, heartbeat: float | None) -> None:
        self._work, self._waiting, self._client = work, waiting, client
        self._heartbeat = heartbeat
        self._name = f"blockbuster-{uuid.uuid4().hex[:12]}"
        folder, model = getattr(work, "folder", None), getattr(work, "required_model", None)
        self._admission = Admission(client, self._name, folder, model, self._wake)
        self._demand = waits.Demand(client)
        self._worker_timeout = waits.worker_timeout()
        self._landed: queue.SimpleQueue[Future[Any] | None] = queue.SimpleQueue()
        self._flying: dict[Any, tuple[int, str, Future[Any]]] = {}
        self._workers: list[str] = []
        self._looked = 0.0
        self._seen = time.monotonic()
        self._suspects: set[int] = set()
        self._alone: int | None = None
        self._attempts: Counter[int] = Counter()
        self._dropped: Counter[int] = Counter()
        self._again: dict[int, str] = {}
        self._stranded: Counter[Any] = Counter()
        self._strandings: Counter[int] = Counter()
        self._judged: deque[R] = deque()

    def results(self) -> Generator[R | None, None, None]:
        """Results as they land; None for each heartbeat."""
        from .worker import WorkPlugin

        with self._scheduler():
            plugin = WorkPlugin(self._name, pickle_work(self._work))
            waits.ask(lambda: self._client.register_plugin(plugin, name=self._name))
        try:
            while self._fill():
                while self._judged:
                    yield self._judged.popleft()
                try:
                    future = self._landed.get(timeout=self._heartbeat or 1.0)
                except queue.Empty:
                    if self._heartbeat:
                        yield None
                    continue
                result = None if future is None else self._land(future)
                if result is not None:
                    yield result
        finally:
            self._stop()

    # ---------------------------------------------------------------- sending
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
                        continue
                    load[worker] += 1
                    self._send(item, worker)
        return bool(self._flying or self._waiting or self._suspects or self._again or self._judged)

    def _next(self, worker: str) -> int | None:
        for known, before in self._again.items():
            # What failed on one worker is tried on another: its GPU may be shared, its disk may be bad.
            if before != worker or len(self._workers) == 1:
                del self._again[known]
                return known
        item = self._waiting.take(worker)
        if item is None and self._suspects and not self._flying:
            # Last, and one at a time: a tile that kills its worker must not take its neighbours with it again.
            item = self._suspects.pop()
            self._alone = item
        return item

    def _send(self, item: int, worker: str) -> None:
        from .worker import do

        with self._scheduler():
            future = self._client.submit(
                do,
                self._name,
                item,
                self._work.ship(item),
                key=f"{self._name}-{item}-{uuid.uuid4().hex[:6]}",
                workers=[worker],
                # dask may give it to a worker that is idle or lives on, but not again and again to one that was refused.
                allow_other_workers=not self._admission.refused,
                pure=False,
            )
        self._flying[future.key] = (item, worker, future)
        future.add_done_callback(self._landed.put)

    # ---------------------------------------------------------------- landing
    def _land(self, future: Future[Any]) -> R | None:
        if future.key not in self._flying:
            return None
        item, worker, _ = self._flying.pop(future.key)
        try:
            return self._take(item, worker, future)
        finally:
            # A finished task that someone still holds is computed anew when its worker dies.
            future.release()

    def _take(self, item: int, worker: str, future: Future[Any]) -> R | None:
        from distributed import CancelledError, KilledWorker

        if future.status == "finished":
            try:
                return self._judge(item, worker, future.result(timeout=waits.FETCH))
            except (CancelledError, TimeoutError):
                # Its worker died with the result, or the scheduler did.
                return self._dropped_by_cluster(item)
            except OSError as broken:
                raise waits.lost(str(broken)) from broken
        if future.status != "error":
            return self._dropped_by_cluster(item)
        error = future.exception(timeout=waits.FETCH)
        if isinstance(error, KilledWorker):
            return self._killed(item, worker)
        return self._judge(item, worker, self._work.lost(item, error))

    def _killed(self, item: int, worker: str) -> R | None:
        """What has killed workers is tried once more with nothing else running, and then it is a failure."""
        if self._alone != item:
            self._suspects.add(item)
            return None
        error = WorkerDiedError(
            "its worker process died each time it was tried, at last with nothing else running: killed by its "
            "memory limit (give workers more memory, or make tiles smaller), or crashed by the model; "
            "the worker's log says which"
        )
        return self._judge(item, worker, self._work.lost(item, error))

    def _judge(self, item: int, worker: str, result: R) -> R | None:
        """The result, or None if the item is to be tried again."""
        from .worker import NotAdmitted

        if isinstance(result, NotAdmitted):
            self._waiting.add([item])
            return None
        self._attempts[item] += 1
        if not wants_retry(self._work, result, self._attempts[item]):
            return result
        self._again[item] = worker
        return None

    def _dropped_by_cluster(self, item: int) -> R | None:
        """A task that ended without a result: someone cancelled it, or the scheduler is gone."""
        self._dropped[item] += 1
        if self._client.status != "running":
            raise waits.lost("the connection broke")
        if self._dropped[item] >= CANCELLED_TIMES:
            return self._work.lost(item, RuntimeError(f"the cluster dropped the task {CANCELLED_TIMES} times"))
        self._waiting.add([item])
        return None

    # ------------------------------------------------------------ the cluster
    @contextlib.contextmanager
    def _scheduler(self) -> Iterator[None]:
        """Tell a scheduler that is gone from everything else that can go wrong in a call."""
        try:
            yield
        except (OSError, TimeoutError) as error:
            raise waits.lost(str(error)) from error
        except Exception as error:
            if self._client.status == "running":
                raise
            raise waits.lost(str(error)) from error

    def _look_at_workers(self) -> None:
        """Find out which workers may get tiles."""
        now = time.monotonic()
        if self._workers and now - self._looked < 1.0:
            return
        if self._client.status != "running":
            raise waits.lost("the connection broke")
        with self._scheduler():
            present = sorted(waits.ask(self._client.nthreads))
            self._workers = self._admission.look(present)
        self._looked = now
        if self._workers:
            self._seen = now
            self._waiting.waits_for = ""
            self._demand.drop()
            self._send_stranded_again()
        else:
            self._wait_for_workers(present, now)

    def _wait_for_workers(self, present: list[str], now: float) -> None:
        if asking := self._admission.asking:
            self._waiting.waits_for = f"worker {asking[0]} to pass its checks"
            patience = LOADING
        else:
            self._waiting.waits_for = waits.waiting_for_worker(self._client)
            patience = self._worker_timeout
        if not present:
            with self._scheduler():
                self._demand.start()
        if now - self._seen > patience:
            refused = "; ".join(self._admission.refused.values())
            raise JobError(refused) if present and refused else waits.no_worker(self._client, patience)

    def _wake(self, _: object) -> None:
        """A worker has answered: look at once."""
        self._looked = 0.0
        self._landed.put(None)

    def _send_stranded_again(self) -> None:
        """Send what the scheduler holds for a worker that is gone, and gives to no other.

        It does so where all workers were gone for a moment: tasks of theirs wait for ever, whoever comes next.
        """
        orphans = {
            key: future
            for key, (_, worker, future) in self._flying.items()
            if worker not in self._workers and not future.done()
        }
        if orphans:
            with self._scheduler():
                running = {key for keys in waits.ask(self._client.processing).values() for key in keys}
            orphans = {key: future for key, future in orphans.items() if key not in running}
        self._stranded = Counter({key: self._stranded[key] + 1 for key in orphans})
        # Not at the first look: a task may be on its way from one worker to the next.
        given_up = [key for key, looks in self._stranded.items() if looks >= 3]
        for key in given_up:
            item, worker, future = self._flying.pop(key)
            with self._scheduler():
                waits.ask(functools.partial(self._client.cancel, [future], force=True))
            self._strandings[item] += 1
            if self._strandings[item] < STRANDED_TIMES and self._alone != item:
                self._waiting.add([item])
            elif (result := self._killed(item, worker)) is not None:
                # dask counts the deaths of a task, and this one is a new task each time.
                self._judged.append(result)

    def _wait_for_running(self) -> None:
        """Wait until no worker runs an item."""
        from .worker import finish_work

        run = functools.partial(self._client.run, finish_work, self._name, ENDING, on_error="ignore")
        with contextlib.suppress(Exception):
            waits.ask(run, "the workers", seconds=ENDING + waits.FETCH)

    def _stop(self) -> None:
        futures = [future for _, _, future in self._flying.values()]
        self._demand.drop()
        if self._client.status != "running":
            return
        # A lost scheduler must not turn the end of a run into another error.
        with contextlib.suppress(Exception):
            self._admission.close()
            if futures:
                waits.ask(lambda: self._client.cancel(futures, force=True), seconds=STOP)
                if getattr(self._work, "outlives_no_run", False):
                    self._wait_for_running()
            waits.ask(lambda: self._client.unregister_worker_plugin(self._name), seconds=STOP)


TILES_PER_WORKER = 2
"""Tiles sent to a worker at a time: one runs while the next one waits, so that no worker idles for the driver."""
