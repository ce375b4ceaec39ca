"""The order in which items go to workers: waiting items, retries, and items that may have killed workers."""

from __future__ import annotations

from collections import Counter

from napari_blockbuster.execution.queue import TileQueue

__all__ = ["Dispatch"]


class Dispatch:
    """Chooses the next item for a worker.

    Parameters
    ----------
    waiting : TileQueue

    Attributes
    ----------
    alone : int or None
        The item that was sent last with nothing else running, because workers died while they ran it.
    """

    def __init__(self, waiting: TileQueue) -> None:
        self.alone: int | None = None
        self._waiting = waiting
        self._retries: dict[int, str] = {}
        self._suspects: set[int] = set()
        self._attempts: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._waiting or self._retries or self._suspects)

    def next(self, worker: str, only_worker: bool, idle: bool) -> int | None:
        """Return an item for a worker, or None if there is none for it now.

        Parameters
        ----------
        worker : str
        only_worker : bool
            Whether there is no other worker.
        idle : bool
            Whether no item is running.
        """
        for failed, failed_on in self._retries.items():
            # An item that failed on one worker is tried on another: its GPU may be shared, its disk may be bad.
            if failed_on != worker or only_worker:
                del self._retries[failed]
                return failed
        item = self._waiting.take(worker)
        if item is None and self._suspects and idle:
            # Last, and one at a time: a tile that kills its worker must not take its neighbors with it again.
            item = self.alone = self._suspects.pop()
        return item

    def count_attempt(self, item: int) -> int:
        """Count an attempt that gave a result; return how many there were."""
        self._attempts[item] += 1
        return self._attempts[item]

    def retry(self, item: int, failed_on: str) -> None:
        """Try an item again, on another worker if there is one."""
        self._retries[item] = failed_on

    def send_again(self, item: int) -> None:
        """Put an item back that did not run. One that was to run with nothing else running waits for that again."""
        if item == self.alone:
            self.alone = None
            self._suspects.add(item)
        else:
            self._waiting.add([item])

    def suspect(self, item: int) -> bool:
        """Try an item again with nothing else running; return False if that was done already."""
        if self.alone == item:
            return False
        self._suspects.add(item)
        return True
