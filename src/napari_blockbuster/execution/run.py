"""Running work on tiles: here, or on a process cluster, with a bounded number of tiles in flight.

The same `Work` runs in both places and gives the same bytes; what differs is only who calls it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from .local_run import run_here
from .queue import TileQueue
from .work import R, Work

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["run"]


def run(
    work: Work[R], waiting: TileQueue, client: Client | None, heartbeat: float | None = None
) -> Generator[R | None, None, None]:
    """Run work on all waiting items and yield the results as they land.

    Parameters
    ----------
    work : Work
    waiting : TileQueue
    client : distributed.Client or None
        None: one item at a time, in this thread.
    heartbeat : float, optional
        Yield None whenever this many seconds passed without a result, so that a caller can look up. On a cluster only.

    Notes
    -----
    Closing the iterator stops the run: items that have not started are dropped, running ones end by themselves and
    still keep what they finish.
    """
    if client is None:
        return run_here(work, waiting)
    from .cluster import check_is_usable
    from .cluster_run import ClusterRun

    check_is_usable(client)
    return ClusterRun(work, waiting, client, heartbeat).results()
