"""Reuse freed memory from tile to tile: each tile needs arrays of the same size as the one before."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator

from napari_blockbuster.machine.system import glibc

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""
KEPT = 1 << 30
"""Most freed bytes that are kept for the next tile. Larger arrays come from the system."""
USUAL = 32 << 20
"""Threshold that glibc reaches in a process that allocates and frees large arrays."""

_lock = threading.Lock()
_users = 0


@contextlib.contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep memory that one tile frees for the next one, and return all of it to the system at the end.

    By default glibc requests each array above 32 MiB from the system, which clears it page by page at first use. For a fast
    model this takes a fifth of the processor time outside the model. With another C library, this does nothing.

    Not for workers: dask monitors the memory that they hold, and pauses workers that return none.
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
