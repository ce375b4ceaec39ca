"""Time limits of tiles as the driver sees them: a worker that is stopped cannot keep its own."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from napari_blockbuster.execution import waits

from .flights import Flight

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Deadlines", "end_worker", "worker_silence"]

GRACE = 15.0
"""Seconds beyond the limits for the worker to end itself, and for its tile to be told."""
KILLING = 10.0
"""Seconds that dask gives a worker before it kills it."""


class Deadlines:
    """How long the tiles in flight have been running. The clock stands still while this process is asleep.

    A worker runs its tiles one after the other, so the clock of a tile starts when it is the first that the worker has.
    """

    def __init__(self) -> None:
        self._clock = waits.AwakeClock()
        self._firsts: dict[str, tuple[Any, float]] = {}

    def look(self, flights: Iterable[Flight]) -> None:
        """Note which tile each worker is at. Call it at least once a second."""
        now, firsts = self._clock.now(), {}
        for flight in flights:
            if flight.worker not in firsts:
                key, since = self._firsts.get(flight.worker, (None, now))
                firsts[flight.worker] = flight.future.key, since if key == flight.future.key else now
        self._firsts = firsts

    def age(self, flight: Flight) -> float:
        """Return the seconds for which a tile has been running; 0 if another one runs before it."""
        key, since = self._firsts.get(flight.worker, (None, 0.0))
        return self._clock.now() - since if key == flight.future.key else 0.0

    def overdue(self, flights: Iterable[Flight], limit: float) -> list[Flight]:
        """Return the tiles whose worker should have ended itself long ago.

        A tile may first wait for another process that segments it, for at most the time limit.
        """
        return [flight for flight in flights if self.age(flight) > 2 * limit + GRACE]


def end_worker(client: Client, worker: str) -> None:
    """Have a worker killed and replaced by its nanny, without waiting for it. Does nothing for a worker without one."""

    def restart() -> None:
        with contextlib.suppress(Exception):
            client.restart_workers([worker], timeout=KILLING, raise_for_error=False)

    threading.Thread(target=restart, name="blockbuster-restart", daemon=True).start()


def worker_silence() -> float:
    """Return the seconds after which dask gives up a worker that does not answer."""
    import dask
    from dask.utils import parse_timedelta

    silence = dask.config.get("distributed.scheduler.worker-ttl", "5 minutes")
    return float(parse_timedelta(silence, default="s")) if silence else math.inf
