"""Ctrl-C and SIGTERM as an orderly way out, for programs that hold workers and half-written files."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

__all__ = ["STOPPED", "TERMINATED", "Terminated", "stopping_cleanly"]

STOPPED, TERMINATED = 130, 143
"""Exit codes after SIGINT and SIGTERM, as shells give them."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: the same clean way out as Ctrl-C, with its own exit code."""


@contextlib.contextmanager
def stopping_cleanly() -> Iterator[list[int]]:
    """Turn SIGTERM into an orderly stop; a second signal ends the process at once. Yields the SIGTERMs received."""
    received: list[int] = []

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        # The local cluster notices that its driver is gone, and stops by itself.
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
        # Called from another thread than the first (a test, a service): signals are not ours to handle there.
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
