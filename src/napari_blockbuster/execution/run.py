"""Run work on tiles, in this process or on a process cluster, with a bounded number of tiles in flight.

The same `Work` runs in both places and gives the same bytes.
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
    """Run work on all waiting items and yield each result when it is there.

    Parameters
    ----------
    work : Work
    waiting : TileQueue
    client : distributed.Client or None
        None: run one item at a time, in this thread.
    heartbeat : float, optional
        Yield None after this many seconds without a result, so that the caller regains control. On a cluster only.

    Notes
    -----
    Closing the iterator stops the run. Items that have not started are dropped. Items that are running finish, and their
    results on disk are kept.
    """
    if client is None:
        return run_here(work, waiting)
    from napari_blockbuster.execution.cluster_run.cluster_run import ClusterRun

    from .cluster import check_is_usable

    check_is_usable(client)
    return ClusterRun(work, waiting, client, heartbeat).results()
