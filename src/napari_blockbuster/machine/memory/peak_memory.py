"""Peak memory of this process."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from napari_blockbuster.machine.system import glibc

__all__ = ["PeakMemory"]

INTERVAL = 0.002
"""Seconds between two measurements."""


class PeakMemory:
    """Context manager that monitors the resident memory of this process.

    Attributes
    ----------
    before, most : int
        Bytes at the beginning, and the maximum since then. Peaks of a few milliseconds may be missed.
    """

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="peak-memory", daemon=True)
        self.before = self.most = 0

    @property
    def rise(self) -> int:
        """Bytes above the value at the beginning."""
        return self.most - self.before

    def __enter__(self) -> Self:
        _trim()
        self.before = self.most = self._now()
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.most = max(self.most, self._now())
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL):
            self.most = max(self.most, self._now())

    def _now(self) -> int:
        return int(self._process.memory_info().rss)


def _trim() -> None:
    """Return freed memory to the system, so that its reuse counts as a rise (glibc only)."""
    libc = glibc()
    if libc is not None:
        libc.malloc_trim(0)
