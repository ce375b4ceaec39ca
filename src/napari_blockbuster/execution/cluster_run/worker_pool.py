"""The workers of a run as they come and go."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from napari_blockbuster.execution import waits
from napari_blockbuster.execution.admission.admission import LOADING, Admission
from napari_blockbuster.machine.errors import JobError

if TYPE_CHECKING:
    from napari_blockbuster.execution.queue import TileQueue

__all__ = ["WorkerPool"]


class WorkerPool:
    """Workers that may get items, looked up once a second. Waits for workers where there are none.

    Parameters
    ----------
    admission : Admission
    waiting : TileQueue
        Its `waits_for` says what the run waits for.

    Attributes
    ----------
    workers : list of str
        Workers that have passed the checks.
    """

    def __init__(self, admission: Admission, waiting: TileQueue) -> None:
        self.workers: list[str] = []
        self._admission = admission
        self._waiting = waiting
        self._client = admission.client
        self._demand = waits.Demand(admission.client)
        self._patience = waits.worker_timeout()
        self._looked = 0.0
        self._seen = time.monotonic()
        self._answer: waits.Wait[Any] | None = None
        self._asked = 0.0

    @property
    def is_one(self) -> bool:
        """Whether there is one worker, and no other one is being checked."""
        return len(self.workers) == 1 and not self._admission.asking

    @property
    def has_refused(self) -> bool:
        """Whether a worker did not pass the checks."""
        return bool(self._admission.refused)

    @property
    def is_unanswered(self) -> bool:
        """Whether the scheduler has not answered the last question yet."""
        return self._answer is not None

    def exclude(self, worker: str, why: str) -> None:
        """Send nothing more to a worker."""
        self._admission.exclude(worker, why)
        self.workers = [each for each in self.workers if each != worker]

    def look(self) -> bool:
        """Find out which workers may get items; return whether it was time to look and there are some.

        Raises
        ------
        ClusterLostError
            If the scheduler is gone or does not answer, or there has been no worker for too long.
        JobError
            If no worker passes the checks.
        """
        now = time.monotonic()
        if self.workers and now - self._looked < waits.LOOK_AT_WORKERS:
            return False
        if self._client.status != "running":
            raise waits.lost("the connection broke")
        with waits.scheduler_errors(self._client):
            present = self._present(now)
            if present is None:
                return False
            self.workers = self._admission.look(present)
        self._looked = now
        if not self.workers:
            self._wait(present, now)
            return False
        self._seen = now
        self._waiting.waits_for = ""
        self._demand.drop()
        return True

    def _present(self, now: float) -> list[str] | None:
        """Return the workers that are present; None while the scheduler has not answered, so that the caller can go on."""
        if self._answer is None:
            self._answer, self._asked = waits.answer(self._client.nthreads), now
        try:
            what = next(self._answer)
        except StopIteration as end:
            self._answer = None
            return sorted(end.value)
        if now - self._asked > waits.SAID:
            self._waiting.waits_for = what
        return None

    def wake(self, _: Any = None) -> None:
        """Look again at the next call of `look`."""
        self._looked = 0.0

    def close(self) -> None:
        """Stop asking the cluster for a worker, and drop the checks that are still running."""
        self._demand.drop()
        with contextlib.suppress(Exception):
            self._admission.close()

    def _wait(self, present: list[str], now: float) -> None:
        if asking := self._admission.asking:
            self._waiting.waits_for = f"worker {asking[0]} to pass its checks"
            patience = LOADING
        else:
            self._waiting.waits_for = waits.waiting_for_worker(self._client)
            patience = self._patience
        if not present:
            with waits.scheduler_errors(self._client):
                self._demand.start()
        if now - self._seen > patience:
            refused = "; ".join(self._admission.refused.values())
            raise JobError(refused) if present and refused else waits.no_worker(self._client, patience)
