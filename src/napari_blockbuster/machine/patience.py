"""Say what a process waits for, when that takes unusually long."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

__all__ = ["WaitWarning", "noticed"]


class WaitWarning(UserWarning):
    """A wait that takes unusually long. It may never end, for example on a disk that does not answer."""


@contextlib.contextmanager
def noticed(what: str, seconds: float = 10.0) -> Iterator[None]:
    """Warn once if the block takes longer than some seconds. `what` follows "waiting for"."""

    def tell() -> None:
        warnings.warn(f"Still waiting for {what} after {seconds:g} s", WaitWarning, stacklevel=2)

    timer = threading.Timer(seconds, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
