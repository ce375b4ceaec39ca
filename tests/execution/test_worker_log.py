"""What the workers of a local cluster log on the terminal of the driver."""

from __future__ import annotations

import logging
import os

import pytest
from distributed.comm.core import CommClosedError

from napari_blockbuster.execution.local_cluster.worker_log import CLUSTER, _WhileClusterRuns


@pytest.mark.parametrize(("error", "said"), [(CommClosedError("closed"), False), (ValueError("a bug of dask"), True)])
def test_a_lost_connection_is_not_logged(error: Exception, said: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that closes runs for as long as it waits for a worker that was stopped."""
    monkeypatch.setenv(CLUSTER, str(os.getpid()))
    record = logging.LogRecord("distributed.worker", logging.ERROR, "", 0, "Failed.", (), (type(error), error, None))
    assert _WhileClusterRuns().filter(record) is said
