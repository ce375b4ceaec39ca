"""Turns at the model of a worker process: one call at a time, in one thread, while other items are read and written."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

__all__ = ["ModelUse", "Turn", "exclusive", "in_turn"]

P = ParamSpec("P")
R = TypeVar("R")


class _Turnstile:
    """A lock that is passed on in the order of arrival: the thread of the model, which always comes back, starves nobody."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


_turn = _Turnstile()
_threads: list[Executor] = []


def exclusive() -> AbstractContextManager[None]:
    """Return the lock of the model of this process, for use with ``with``."""
    return _turn


def in_turn(
    check: Callable[[], None], began: Callable[[], None], call: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Wait for the model to be free, and call a function that uses it.

    Two networks that compute at the same time need the memory of both, and are no faster. The next call begins in the thread
    of the model itself, right after the one before: passing a turn on from thread to thread would let the device wait for the
    interpreter lock several times.

    Parameters
    ----------
    check : callable
        Called once the turn has come. May raise, which gives up the turn.
    began : callable
        Called in this thread while the model computes.
    call : callable
        Called in the thread of the model: some libraries keep state for each thread, and a new thread for each tile would
        build it again.
    """
    # dask knows by the context which worker a thread belongs to.
    context = contextvars.copy_context()
    checked = threading.Event()
    comes = False

    def turn() -> R:
        nonlocal comes
        with _turn:
            try:
                check()
                comes = True
            finally:
                checked.set()
            return context.run(call, *args, **kwargs)

    future = _thread().submit(turn)
    checked.wait()
    if comes:
        began()
    return future.result()


def _thread() -> Executor:
    if not _threads:
        # Its threads are daemons, so that a model that hangs does not keep the process alive.
        from distributed.threadpoolexecutor import ThreadPoolExecutor

        _threads.append(ThreadPoolExecutor(1, thread_name_prefix="blockbuster-model"))
    return _threads[0]


@dataclass
class Turn:
    """One use of the model.

    Attributes
    ----------
    seconds : float
        Time in the model.
    read_wait, write_wait, other_wait : float
        Seconds that the model was idle before: while this item was read, while earlier items were written, and for want of an
        item.
    """

    seconds: float = 0.0
    read_wait: float = 0.0
    write_wait: float = 0.0
    other_wait: float = 0.0


class ModelUse:
    """Times at which the model of this process computes in one run, and the reasons why it is idle."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free_since: float | None = None
        self._turns = self._writing = 0
        self._written_at = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        # Times of this process mean nothing to another one.
        return ModelUse, ()

    @contextlib.contextmanager
    def turn(self, read_began: float, read_ended: float) -> Iterator[Turn]:
        """Measure a use of the model on an item that was read from `read_began` to `read_ended` (``time.perf_counter``)."""
        began = time.perf_counter()
        turn = Turn()
        self._turns += 1
        # Not before the second item: what is imported to write the first one would count as a wait for writing.
        if (free := self._free_since) is not None and self._turns > 2:
            turn.read_wait = max(0.0, read_ended - max(free, read_began))
            with self._lock:
                written_at = began if self._writing else self._written_at
            turn.write_wait = max(0.0, min(written_at, began) - free - turn.read_wait)
            turn.other_wait = began - free - turn.read_wait - turn.write_wait
        try:
            yield turn
        finally:
            self._free_since = time.perf_counter()
            turn.seconds = self._free_since - began

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Count an item that is being finished."""
        with self._lock:
            self._writing += 1
        try:
            yield
        finally:
            with self._lock:
                self._writing -= 1
                self._written_at = time.perf_counter()
