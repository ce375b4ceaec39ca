"""Turns at the model of a worker process: one call at a time, in one thread, while other items are read and written."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

__all__ = ["exclusive", "in_turn"]

P = ParamSpec("P")
R = TypeVar("R")

_turn = threading.Lock()
_threads: list[Executor] = []


def exclusive() -> threading.Lock:
    """Return the lock of the model of this process, for use with ``with``."""
    return _turn


def in_turn(begin: Callable[[], None], call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Wait for the model to be free, and call a function that uses it.

    Two networks that compute at the same time need the memory of both, and are no faster.

    Parameters
    ----------
    begin : callable
        Called in this thread once the turn has come. May raise, which gives up the turn.
    call : callable
        Called in the thread of the model: some libraries keep state for each thread, and a new thread for each tile would
        build it again.
    """
    with _turn:
        begin()
        # dask knows by the context which worker a thread belongs to.
        context = contextvars.copy_context()
        return _thread().submit(lambda: context.run(call, *args, **kwargs)).result()


def _thread() -> Executor:
    if not _threads:
        # Its threads are daemons, so that a model that hangs does not keep the process alive.
        from distributed.threadpoolexecutor import ThreadPoolExecutor

        _threads.append(ThreadPoolExecutor(1, thread_name_prefix="blockbuster-model"))
    return _threads[0]
