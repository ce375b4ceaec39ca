"""Log of the workers of a local cluster. Loaded by dask when a worker starts."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from distributed.comm.core import CommClosedError

from napari_blockbuster.machine.processes import is_running, is_stopped

__all__ = ["CLUSTER", "dask_setup"]

CLUSTER = "BLOCKBUSTER_CLUSTER"
"""Environment variable with the process id of the cluster."""

DYING = 0.05
"""Seconds that a killed process takes to be gone once its connections are closed."""


class _WhileClusterRuns(logging.Filter):
    """Drops records once the process of the cluster is gone or stopped, and those of a lost connection.

    The driver has ended the cluster, or reports that it lost it. How each worker lost its connections would only stand between
    the lines of the driver. The same holds for the error of a task: the driver gets it, and reports it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cluster = int(os.environ[CLUSTER])

    def filter(self, record: logging.LogRecord) -> bool:
        # A cluster that is closing waits for a worker that was stopped, and runs when that worker finds its connection closed.
        lost_connection = record.exc_info is not None and isinstance(record.exc_info[1], CommClosedError)
        if str(record.msg).startswith("Compute Failed") or lost_connection or self._is_lost():
            return False
        time.sleep(DYING)
        return not self._is_lost()

    def _is_lost(self) -> bool:
        return is_stopped(self._cluster) or not is_running(self._cluster)


def dask_setup(worker: Any) -> None:
    """Filter what dask logs in this worker. Called by dask."""
    only = _WhileClusterRuns()
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.split(".")[0] == "distributed" and isinstance(logger, logging.Logger):
            for handler in logger.handlers:
                handler.addFilter(only)
