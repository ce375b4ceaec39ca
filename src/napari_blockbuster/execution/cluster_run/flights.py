"""Items that were sent to workers and have not landed."""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Future

__all__ = ["Flight", "Flights", "Strandings"]

STRANDED_LOOKS = 3
"""Looks in a row at which a task is stranded before it is given up: it may be on its way from one worker to the next."""


@dataclass(frozen=True)
class Flight:
    """An item that was sent to a worker."""

    item: int
    worker: str
    future: Future[Any]


class Flights:
    """Items in flight, and a queue of those whose tasks have ended."""

    def __init__(self) -> None:
        self._flying: dict[Any, Flight] = {}
        self._ended: queue.SimpleQueue[Future[Any] | None] = queue.SimpleQueue()

    def __len__(self) -> int:
        return len(self._flying)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._flying.values())

    def add(self, flight: Flight) -> None:
        """Follow a task until it ends."""
        self._flying[flight.future.key] = flight
        flight.future.add_done_callback(self._ended.put)

    def landed(self, seconds: float) -> Flight | None:
        """Wait for a task to end, and return it. Return None after `wake`.

        Raises
        ------
        queue.Empty
            If nothing happens in time.
        """
        future = self._ended.get(timeout=seconds)
        # A task that was given up may still end.
        return None if future is None else self._flying.pop(future.key, None)

    def wake(self) -> None:
        """End a wait in `landed`."""
        self._ended.put(None)

    def give_up(self, flight: Flight) -> None:
        """Stop following a task."""
        self._flying.pop(flight.future.key, None)

    def load(self, workers: list[str]) -> dict[str, int]:
        """Return how many items each of the workers has."""
        load = dict.fromkeys(workers, 0)
        for flight in self:
            if flight.worker in load:
                load[flight.worker] += 1
        return load


class Strandings:
    """Finds tasks that the scheduler holds for a worker that is gone, and gives to no other.

    This happens when all workers are gone for a moment: their tasks wait forever, even after new workers join.
    """

    def __init__(self) -> None:
        self._looks: Counter[Any] = Counter()

    def find(self, flights: Flights, workers: list[str], processing: Callable[[], dict[str, Any]]) -> list[Flight]:
        """Return the stranded tasks. To be called once for each look at the workers.

        Parameters
        ----------
        flights : Flights
        workers : list of str
            Workers that are present.
        processing : callable
            Asks the scheduler for the tasks of each worker.
        """
        orphans = {f.future.key: f for f in flights if f.worker not in workers and not f.future.done()}
        if orphans:
            running = {key for keys in processing().values() for key in keys}
            orphans = {key: flight for key, flight in orphans.items() if key not in running}
        self._looks = Counter({key: self._looks[key] + 1 for key in orphans})
        return [orphans[key] for key, looks in self._looks.items() if looks >= STRANDED_LOOKS]
