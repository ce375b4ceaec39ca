"""Clean stop on Ctrl-C and SIGTERM, for programs with workers and unfinished files."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

__all__ = ["STOPPED", "TERMINATED", "Terminated", "stopping_cleanly"]

STOPPED, TERMINATED = 130, 143
"""Exit codes after SIGINT and SIGTERM, as in shells."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: the same clean stop as Ctrl-C, with its own exit code."""


@contextlib.contextmanager
def stopping_cleanly() -> Iterator[list[int]]:
    """Turn SIGTERM into a clean stop. A second signal ends the process at once. Yield the list of SIGTERMs received."""
    received: list[int] = []

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        # The local cluster stops by itself when its driver is gone.
        os._exit(TERMINATED if number == signal.SIGTERM else STOPPED)

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        for each in numbers:
            signal.signal(each, leave)
        if number == signal.SIGTERM:
            received.append(number)
            raise Terminated
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        before = [signal.signal(number, stop) for number in numbers]
    except ValueError:
        # Only the main thread can handle signals. Tests and services may call this from another thread.
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
