"""Waits on a cluster. Each wait ends: with an answer, when its worker is gone, on request, or after a time limit.

A wait is a generator. A few times a second it yields a description of the event that it waits for, and finally it returns the
answer. Between the yields its caller may stop it (a canceled run, a viewer that pauses). Closing it drops the request.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from napari_blockbuster.machine.errors import ClusterLostError

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = [
    "AwakeClock",
    "Demand",
    "Wait",
    "WorkerGoneError",
    "answer",
    "answer_of_workers",
    "ask",
    "complete",
    "lost",
    "no_worker",
    "result_from",
    "scheduler_errors",
    "some_workers",
    "worker_timeout",
]

T = TypeVar("T")
Wait = Generator[str, None, T]

LOOK = 0.1
"""Seconds between two yields."""
LOOK_AT_WORKERS = 1.0
"""Seconds between two checks of the workers that are present."""
ANSWER = 300.0
"""Seconds for an answer of connected workers. A worker cannot answer while a model holds its interpreter lock; dask gives up
such a worker after the same time."""
SAID = 5.0
"""Seconds after which a wait for the scheduler is worth a word."""
FETCH = 5.0
"""Seconds for a small result to arrive from its worker. It is lost if the worker died."""
WORKER_TIMEOUT = "napari-blockbuster.worker-timeout"
SCHEDULER_TIMEOUT = "napari-blockbuster.scheduler-timeout"


class WorkerGoneError(Exception):
    """The worker that should answer is gone."""


def worker_timeout() -> float:
    """Return how many seconds to wait for a worker on a cluster without workers: from dask's configuration, by default an hour.

    A batch system may keep new workers in its queue for that long.
    """
    import dask
    from dask.utils import parse_timedelta

    return float(parse_timedelta(dask.config.get(WORKER_TIMEOUT, "1 hour"), default="s"))


def scheduler_timeout() -> float:
    """Return how many seconds to wait for an answer of the scheduler: from dask's configuration, by default 2 minutes.

    It answers within milliseconds, unless it is stopped or its machine is overloaded.
    """
    import dask
    from dask.utils import parse_timedelta

    return float(parse_timedelta(dask.config.get(SCHEDULER_TIMEOUT, "2 minutes"), default="s"))


class AwakeClock:
    """A clock that stands still while this process is stopped or its machine sleeps. It is right if read once a second."""

    STEP = 2.0
    """Most seconds between two readings that count."""

    def __init__(self) -> None:
        self._seconds, self._read = 0.0, time.monotonic()

    def now(self) -> float:
        """Return the seconds since the clock was made."""
        read = time.monotonic()
        self._seconds += min(read - self._read, self.STEP)
        self._read = read
        return self._seconds


def no_worker(client: Client, seconds: float) -> ClusterLostError:
    """Return the error for a cluster without workers."""
    return ClusterLostError(
        f"The cluster {_address(client)} has had no worker for {seconds:.0f} s. Finished tiles are safe. Start workers and "
        f"resume the job. To wait longer, set {WORKER_TIMEOUT} in dask's configuration, or the environment variable "
        "DASK_NAPARI_BLOCKBUSTER__WORKER_TIMEOUT=12h."
    )


def lost(why: str) -> ClusterLostError:
    """Return the error for a scheduler that is gone."""
    return ClusterLostError(
        f"Lost connection to the dask scheduler ({why[:200]}). Finished tiles are safe. Start a cluster and resume the job."
    )


@contextlib.contextmanager
def scheduler_errors(client: Client) -> Iterator[None]:
    """Turn an error that means that the scheduler is gone into `ClusterLostError`. Pass on all others."""
    try:
        yield
    except (OSError, TimeoutError) as error:
        raise lost(str(error)) from error
    except Exception as error:
        if client.status == "running":
            raise
        raise lost(str(error)) from error


# --------------------------------------------------------------------------------------------------------------- waits
def complete(wait: Wait[T], cancelled: Callable[[], bool] | None = None) -> T | None:
    """Run a wait and return its answer, or None if `cancelled` returns true first."""
    with contextlib.closing(wait):
        while True:
            try:
                next(wait)
            except StopIteration as end:
                result: T = end.value
                return result
            if cancelled is not None and cancelled():
                return None


def answer(call: Callable[[], T], whose: str = "the scheduler", seconds: float | None = None) -> Wait[T]:
    """Make a blocking call of a client in a thread and wait for its answer.

    Time in which this process was asleep does not count: the answer may have arrived meanwhile.

    Raises
    ------
    TimeoutError
        If there is no answer in time.
    Exception
        If the call raised it.
    """
    if seconds is None:
        seconds = scheduler_timeout() if whose == "the scheduler" else ANSWER
    answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
    threading.Thread(target=_call, args=(call, answers), name="blockbuster-call", daemon=True).start()
    clock = AwakeClock()
    while True:
        try:
            succeeded, value = answers.get(timeout=LOOK)
        except queue.Empty:
            if clock.now() > seconds:
                raise TimeoutError(f"{whose} does not answer: no reply within {seconds:.0f} s") from None
            yield f"an answer of {whose}"
            continue
        if not succeeded:
            raise value
        result: T = value
        return result


def ask(call: Callable[[], T], whose: str = "the scheduler", seconds: float | None = None) -> T:
    """Make a blocking call of a client and return its answer. Wait at most `seconds`."""
    return cast(T, complete(answer(call, whose, seconds)))


def _call(call: Callable[[], Any], answers: queue.SimpleQueue[tuple[bool, Any]]) -> None:
    try:
        answers.put((True, call()))
    except BaseException as error:
        answers.put((False, error))


def answer_of_workers(client: Client, call: Callable[[], T], whose: str) -> Wait[T]:
    """Make a call that workers answer through the scheduler. A scheduler that is silent meanwhile ends the wait sooner.

    Raises
    ------
    ClusterLostError
        If the scheduler is gone or does not answer.
    TimeoutError
        If the workers do not answer in time.
    """
    waiting = answer(call, whose)
    asked = time.monotonic()
    while True:
        try:
            what = next(waiting)
        except StopIteration as end:
            result: T = end.value
            return result
        if time.monotonic() - asked > LOOK_AT_WORKERS:
            yield from workers_of(client)
            asked = time.monotonic()
        yield what


def workers_of(client: Client) -> Wait[list[str]]:
    """Return the workers that are present.

    Raises
    ------
    ClusterLostError
        If the scheduler is gone.
    """
    if client.status != "running":
        raise lost("the connection broke")
    try:
        threads = yield from answer(client.nthreads)
    except (OSError, TimeoutError) as error:
        raise lost(str(error)) from error
    return sorted(threads)


def some_workers(client: Client) -> Wait[list[str]]:
    """Wait until the cluster has a worker. A cluster that starts workers on demand is asked for one.

    Returns
    -------
    list of str
        Addresses.

    Raises
    ------
    ClusterLostError
        If none comes within `worker_timeout`, or if the scheduler is gone.
    """
    seconds = worker_timeout()
    began = time.monotonic()
    with Demand(client) as demand:
        while not (workers := (yield from workers_of(client))):
            demand.start()
            waited = time.monotonic() - began
            if waited > seconds:
                raise no_worker(client, seconds)
            yield waiting_for_worker(client)
            time.sleep(LOOK)
    return workers


def waiting_for_worker(client: Client) -> str:
    """Return the description of the event that a run without workers waits for."""
    return f"a worker of {_address(client)} (it has none now; a batch job may be queued)"


def result_from(client: Client, future: Future[T], worker: str, what: str, seconds: float) -> Wait[T]:
    """Wait for the result of a task that only one worker may run.

    Raises
    ------
    WorkerGoneError
        If the worker is gone.
    TimeoutError
        If there is no result in time.
    ClusterLostError
        If the scheduler is gone.
    Exception
        If the task raised it.
    """
    began = looked = time.monotonic()
    while not future.done():
        now = time.monotonic()
        if now - looked > LOOK_AT_WORKERS:
            looked = now
            present = yield from workers_of(client)
            if worker not in present and not future.done():
                raise WorkerGoneError(worker)
        if now - began > seconds:
            raise TimeoutError(f"no result within {seconds:.0f} s")
        yield what
        time.sleep(LOOK)
    return _value(future, worker)


def _value(future: Future[T], worker: str) -> T:
    from distributed import CancelledError, KilledWorker

    try:
        value: T = future.result(timeout=FETCH)
    except (KilledWorker, CancelledError, TimeoutError):
        raise WorkerGoneError(worker) from None
    return value


class Demand:
    """A task that waits for any worker. Adaptive clusters start workers only for waiting tasks."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._task: Any = None

    def start(self) -> None:
        """Submit the task, unless it is waiting already."""
        if self._task is None or self._task.done():
            self.drop()
            self._task = self._client.submit(_nothing, key=f"blockbuster-worker-{uuid.uuid4().hex[:12]}", pure=False)

    def drop(self) -> None:
        """Cancel the task."""
        task, self._task = self._task, None
        if task is not None:
            with contextlib.suppress(Exception):
                task.release()

    def __enter__(self) -> Demand:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()


def _nothing() -> None:
    """The task of a demand."""


def _address(client: Client) -> str:
    scheduler = client.scheduler
    return "" if scheduler is None else str(scheduler.address)
