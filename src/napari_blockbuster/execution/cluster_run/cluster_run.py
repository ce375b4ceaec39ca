"""A run on a process cluster: a bounded number of items in flight, and recovery when workers or the scheduler die."""

from __future__ import annotations

import contextlib
import functools
import queue
import uuid
from collections import Counter, deque
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from napari_blockbuster.execution import waits
from napari_blockbuster.execution.admission.admission import Admission
from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.serialization import pickle_work
from napari_blockbuster.execution.time_limit import timeout_error
from napari_blockbuster.execution.work import Work
from napari_blockbuster.machine.errors import WorkerDiedError

from .deadlines import Deadlines, end_worker, worker_silence
from .dispatch import Dispatch
from .flights import Flight, Flights, Strandings
from .worker_pool import WorkerPool

if TYPE_CHECKING:
    from distributed import Client

    from napari_blockbuster.execution.queue import TileQueue
    from napari_blockbuster.execution.work import Work

__all__ = ["TILES_PER_WORKER", "ClusterRun"]

R = TypeVar("R")

TILES_PER_WORKER = 3
"""Tiles sent to a worker at a time: the model runs on one while the next is read and the last is written."""
BLOCKS_PER_WORKER = 2
"""Items sent to a worker at a time without a model: one runs while the next one waits, so that no worker idles for the driver."""
STOP = 30.0
"""Seconds for the scheduler to answer at the end of a run."""
ENDING = 30.0
"""Seconds for which the end of a run waits for items that are running, if they write to a folder that is then deleted."""
STRANDED_TIMES = 2
"""How often an item may be on a worker when all workers die, before it is taken for the cause."""
CANCELLED_TIMES = 5
"""How often an item that the cluster dropped is sent again."""


class ClusterRun(Generic[R]):
    """One call of `napari_blockbuster.execution.run.run` on a cluster."""

    def __init__(self, work: Work[R], waiting: TileQueue, client: Client, heartbeat: float | None) -> None:
        self._work, self._client, self._heartbeat = work, client, heartbeat
        self._name = f"blockbuster-{uuid.uuid4().hex[:12]}"
        self._share = TILES_PER_WORKER if work.takes_turns else BLOCKS_PER_WORKER
        self._dispatch = Dispatch(waiting)
        self._flights = Flights()
        admission = Admission(client, self._name, work.folder, work.required_model, self._wake)
        self._pool = WorkerPool(admission, waiting)
        self._strandings = Strandings()
        self._losses: Counter[tuple[str, int]] = Counter()
        self._failures: deque[R] = deque()
        self._deadlines = Deadlines()

    def results(self) -> Generator[R | None, None, None]:
        """Yield results as they land; None for each heartbeat."""
        from napari_blockbuster.execution.worker import WorkPlugin

        with waits.scheduler_errors(self._client):
            plugin = WorkPlugin(self._name, pickle_work(self._work))
            waits.ask(lambda: self._client.register_plugin(plugin, name=self._name), seconds=waits.ANSWER)
        try:
            while self._fill():
                self._end_hanging()
                while self._failures:
                    yield self._failures.popleft()
                try:
                    flight = self._flights.landed(self._heartbeat or 1.0)
                except queue.Empty:
                    if self._heartbeat:
                        yield None
                    continue
                result = None if flight is None else self._land(flight)
                if result is not None:
                    yield result
        finally:
            self._stop()

    def _wake(self, _: object) -> None:
        """Look at the workers at once: one has answered."""
        self._pool.wake()
        self._flights.wake()

    # ---------------------------------------------------------------- sending
    def _fill(self) -> bool:
        """Send items until every worker has its share; return False once nothing waits or is in flight."""
        if self._pool.look():
            self._recover_stranded()
        workers = self._pool.workers
        load = self._flights.load(workers)
        for share in range(self._share):
            for worker in workers:
                if load[worker] <= share and len(self._flights) < self._share * len(workers):
                    item = self._dispatch.next(worker, self._pool.is_one, not self._flights)
                    if item is None:
                        continue
                    load[worker] += 1
                    self._send(item, worker)
        return bool(self._flights or self._dispatch or self._failures)

    def _send(self, item: int, worker: str) -> None:
        from napari_blockbuster.execution.worker import do

        with waits.scheduler_errors(self._client):
            future = self._client.submit(
                do,
                self._name,
                item,
                self._work.ship(item),
                key=f"{self._name}-{item}-{uuid.uuid4().hex[:6]}",
                workers=[worker],
                # dask may give it to a worker that is idle or lives on, but not again and again to one that was refused.
                allow_other_workers=not self._pool.has_refused,
                pure=False,
            )
        self._flights.add(Flight(item, worker, future))

    def _end_hanging(self) -> None:
        """End workers that do not keep the time limit of their tile, because they are stopped."""
        self._deadlines.look(self._flights)
        if (limit := self._work.time_limit) is None:
            return
        for flight in self._deadlines.overdue(self._flights, limit):
            self._flights.give_up(flight)
            self._pool.exclude(flight.worker, f"worker {flight.worker} did not answer and was ended")
            end_worker(self._client, flight.worker)
            result = self._accept(flight, self._work.lost(flight.item, timeout_error(limit)))
            if result is not None:
                self._failures.append(result)

    # ---------------------------------------------------------------- landing
    def _land(self, flight: Flight) -> R | None:
        """Return the result of a task that has ended, or None if its item runs again."""
        try:
            return self._outcome(flight)
        finally:
            # A finished task that someone still holds is computed anew when its worker dies.
            flight.future.release()

    def _outcome(self, flight: Flight) -> R | None:
        from distributed import CancelledError, KilledWorker

        future = flight.future
        if future.status == "finished":
            try:
                return self._accept(flight, future.result(timeout=waits.FETCH))
            except (CancelledError, TimeoutError):
                # Its worker died with the result, or the scheduler did.
                return self._dropped_by_cluster(flight.item)
            except OSError as broken:
                raise waits.lost(str(broken)) from broken
        if future.status != "error":
            return self._dropped_by_cluster(flight.item)
        error = future.exception(timeout=waits.FETCH)
        if isinstance(error, KilledWorker):
            return self._killed(flight)
        return self._accept(flight, self._work.lost(flight.item, error))

    def _accept(self, flight: Flight, result: Any) -> R | None:
        """Return the result, or None if the item runs again."""
        from napari_blockbuster.execution.worker import NotAdmitted

        if isinstance(result, NotAdmitted):
            self._dispatch.send_again(flight.item)
            return None
        if not self._work.retry(result, self._dispatch.count_attempt(flight.item)):
            accepted: R = result
            return accepted
        self._dispatch.retry(flight.item, flight.worker)
        return None

    def _killed(self, flight: Flight) -> R | None:
        """Try an item that has killed workers once more with nothing else running. After that it has failed."""
        # The workers that died are gone already, and nothing must be sent to them.
        self._pool.wake()
        if self._dispatch.suspect(flight.item):
            return None
        return self._accept(flight, self._work.lost(flight.item, self._work.hang(flight.item) or self._death(flight)))

    def _death(self, flight: Flight) -> WorkerDiedError:
        cause = "killed by its memory limit (give workers more memory, or make tiles smaller), or crashed by the model"
        if self._deadlines.age(flight) >= (silence := worker_silence()):
            cause = (
                f"ended by dask because it did not answer for {silence:.0f} s (a model that hangs, or a process that was "
                f"stopped, which a time limit for tiles would show), or {cause}"
            )
        return WorkerDiedError(
            f"its worker process died each time it was tried, at last with nothing else running: {cause}. "
            "The worker's log says which"
        )

    def _dropped_by_cluster(self, item: int) -> R | None:
        """Send a task again that ended without a result: someone canceled it, or the scheduler is gone."""
        self._losses["dropped", item] += 1
        if self._client.status != "running":
            raise waits.lost("the connection broke")
        if self._losses["dropped", item] >= CANCELLED_TIMES:
            return self._work.lost(item, RuntimeError(f"the cluster dropped the task {CANCELLED_TIMES} times"))
        self._dispatch.send_again(item)
        return None

    def _recover_stranded(self) -> None:
        """Send items again whose tasks wait for a worker that is gone."""
        with waits.scheduler_errors(self._client):
            stranded = self._strandings.find(
                self._flights, self._pool.workers, lambda: waits.ask(self._client.processing)
            )
        for flight in stranded:
            self._flights.give_up(flight)
            with waits.scheduler_errors(self._client):
                waits.ask(functools.partial(self._client.cancel, [flight.future], force=True))
            self._losses["stranded", flight.item] += 1
            if self._losses["stranded", flight.item] < STRANDED_TIMES:
                # It may not have begun: it was sent to a worker that had just died.
                self._dispatch.send_again(flight.item)
            elif (result := self._killed(flight)) is not None:
                # dask counts the deaths of a task, and this one is a new task each time.
                self._failures.append(result)

    # ----------------------------------------------------------------- ending
    def _stop(self) -> None:
        futures = [flight.future for flight in self._flights]
        self._pool.close()
        if self._client.status != "running" or self._pool.is_unanswered:
            return
        # A lost scheduler must not turn the end of a run into another error.
        with contextlib.suppress(Exception):
            if futures:
                waits.ask(lambda: self._client.cancel(futures, force=True), seconds=STOP)
                if self._work.ends_with_run:
                    self._wait_for_running()
            waits.ask(lambda: self._client.unregister_worker_plugin(self._name), seconds=STOP)

    def _wait_for_running(self) -> None:
        """Wait until no worker runs an item."""
        from napari_blockbuster.execution.worker import finish_work

        run = functools.partial(self._client.run, finish_work, self._name, ENDING, on_error="ignore")
        with contextlib.suppress(Exception):
            waits.ask(run, "the workers", seconds=ENDING + waits.FETCH)
