"""Queue of the tiles that wait to run."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

__all__ = ["TileQueue"]


class TileQueue:
    """Items waiting to run. Neighbors stay together on one worker, and some items may be preferred.

    Each worker takes items from its own part of the order. A worker without a part takes the second half of the longest part
    left. Thread-safe: a viewer may call `prefer` during a run.

    Attributes
    ----------
    waits_for : str
        The event that a run waits for before it can send an item (such as a worker to join); "" if there is none.
    """

    def __init__(self, order: Iterable[int]) -> None:
        self._order = list(order)
        self._waiting = set(self._order)
        self._taken: set[int] = set()
        self._sent: list[int] = []
        self._first: deque[int] = deque()
        self._spans = {"": (0, len(self._order))} if self._order else {}
        self._lock = threading.Lock()
        self.waits_for = ""

    def __len__(self) -> int:
        return len(self._waiting)

    def prefer(self, items: Iterable[int]) -> None:
        """Run these items first, in this order, instead of items preferred before. Items that are not waiting are ignored."""
        with self._lock:
            self._first = deque(i for i in items if i in self._waiting)

    def add(self, items: Iterable[int]) -> None:
        """Put items back, to be tried again."""
        with self._lock:
            for item in items:
                if item not in self._waiting:
                    self._waiting.add(item)
                    self._first.append(item)

    def take(self, worker: str = "") -> int | None:
        """Return the next item for a worker, or None if nothing waits."""
        with self._lock:
            item = self._take_first()
            if item is None:
                item = self._take_span(worker)
            if item is not None:
                self._waiting.discard(item)
                self._taken.add(item)
                self._sent.append(item)
            return item

    def spread(self, n: int) -> list[int]:
        """Return at most `n` waiting items, as far apart from each other and from the next item as the order allows."""
        with self._lock:
            left = [item for item in self._order if item in self._waiting]
            return [left[(k * len(left) - 1) // n] for k in range(1, n + 1)] if len(left) >= n else left

    def taken(self) -> set[int]:
        """Return the items taken so far."""
        with self._lock:
            return set(self._taken)

    def sent(self, start: int) -> list[int]:
        """Return the items in the order in which they were taken, without the first `start` items."""
        with self._lock:
            return self._sent[start:]

    def _take_first(self) -> int | None:
        while self._first:
            item = self._first.popleft()
            if item in self._waiting:
                return item
        return None

    def _take_span(self, worker: str) -> int | None:
        while (span := self._spans.pop(worker, None) or self._steal()) is not None:
            start, stop = span
            if start + 1 < stop:
                self._spans[worker] = (start + 1, stop)
            if self._order[start] in self._waiting:
                return self._order[start]
        return None

    def _steal(self) -> tuple[int, int] | None:
        if not self._spans:
            return None
        owner = max(self._spans, key=lambda name: self._spans[name][1] - self._spans[name][0])
        start, stop = self._spans.pop(owner)
        # A part without an owner is taken as a whole; of another worker's part, the half that it would reach last.
        middle = start if owner == "" else (start + stop) // 2
        if start < middle:
            self._spans[owner] = (start, middle)
        return middle, stop
