"""The memory of this process while tiles follow each other: each needs arrays of the same size as the one before."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator

from .system import glibc

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""
KEPT = 1 << 30
"""At most so many freed bytes are kept for the next tile; larger arrays come from the system as ever."""
USUAL = 32 << 20
"""What glibc itself arrives at in a process that allocates and frees large arrays."""

_lock = threading.Lock()
_users = 0


@contextlib.contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep what one tile frees for the next one; on leaving, all of it goes back to the system.

    By default glibc asks the system for each array above 32 MiB anew, and the system clears it page by page at first
    touch: a fifth of the processor time that a cheap tile costs beyond its model. Does nothing with another C library.

    Not for workers: dask judges them by the memory that they hold, and pauses those that give none back.
    """
    libc = glibc()
    if libc is None:
        yield
        return
    _enter(libc)
    try:
        yield
    finally:
        _leave(libc)


def _enter(libc: ctypes.CDLL) -> None:
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            libc.mallopt(_MMAP_THRESHOLD, KEPT)
            libc.mallopt(_TRIM_THRESHOLD, KEPT)


def _leave(libc: ctypes.CDLL) -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            libc.mallopt(_MMAP_THRESHOLD, USUAL)
            libc.mallopt(_TRIM_THRESHOLD, 2 * USUAL)
            libc.malloc_trim(0)
