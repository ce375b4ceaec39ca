"""Say what a process waits for, when that takes unusually long."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

__all__ = ["SILENT_STORAGE", "WaitWarning", "noticed"]

PATIENCE = 10.0
"""Seconds after which a wait is unusually long."""
SILENT_STORAGE = "a disk or server that does not answer, or a slow one"


class WaitWarning(UserWarning):
    """A wait that takes unusually long. It may never end, for example on a disk that does not answer."""


@contextlib.contextmanager
def noticed(what: str, seconds: float | None = None) -> Iterator[None]:
    """Warn once if the block takes longer than some seconds. `what` follows "waiting for".

    It does not end the block: a read that takes minutes may still succeed (a tape, a server that was asleep), and nothing can
    end a call in which the operating system waits for a disk. Ctrl-C does, wherever the system allows it.
    """
    longest = PATIENCE if seconds is None else seconds

    def tell() -> None:
        warnings.warn(f"Still waiting for {what} after {longest:g} s", WaitWarning, stacklevel=2)

    timer = threading.Timer(longest, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
