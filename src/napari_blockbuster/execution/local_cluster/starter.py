"""Process of a local cluster, seen from the process that starts it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from napari_blockbuster.machine.processes import is_stopped
from napari_blockbuster.machine.system import new_session

if TYPE_CHECKING:
    from distributed.security import Security

__all__ = ["LocalProcessCluster", "StartingCluster"]

START = 300.0
"""Seconds for the local cluster to start (imports from a network disk may be slow)."""

QUIET_TRACKER = "ignore::UserWarning:multiprocessing.resource_tracker"


class LocalProcessCluster:
    """A dask cluster on this machine, in a process of its own.

    Its scheduler does not share the GIL of this process, so that a busy viewer cannot block it. Scripts need no
    ``if __name__ == "__main__"`` guard. The cluster stops when this process ends, also if it is killed (it reads the other end
    of a pipe).

    Attributes
    ----------
    scheduler_address : str
        Address for clients.
    dashboard_link : str
        Address of the dask dashboard, or "" where bokeh is not installed.
    n_workers : int
        Worker processes, one thread each.
    security : distributed.security.Security
        Temporary certificate and key of this cluster, without which other users of the machine cannot connect.
        For another client: ``Client(cluster.scheduler_address, security=cluster.security)``.
    """

    def __init__(self, process: subprocess.Popen[str], hello: dict[str, Any]) -> None:
        self._process = process
        self.security = _security(hello["certificate"], hello["key"])
        self.scheduler_address: str = hello["address"]
        self.dashboard_link: str = hello["dashboard"]
        self.n_workers: int = hello["n_workers"]

    def close(self, timeout: float = 20.0) -> None:
        """Stop the workers and the scheduler. Has no effect if they are stopped already."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            # A stopped process ends at nothing but a kill. Its workers notice that it is gone.
            self._process.wait(0.1 if is_stopped(self._process.pid) else timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Process id of the scheduler."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LocalProcessCluster({self.scheduler_address!r}, n_workers={self.n_workers})"


class StartingCluster:
    """A local cluster that is starting. The caller may do other work meanwhile.

    Parameters
    ----------
    plan : dict
        See `napari_blockbuster.execution.local_cluster.process`.
    """

    def __init__(self, plan: dict[str, Any]) -> None:
        self._late = threading.Event()
        self._process = _start(plan)
        self._too_late = threading.Timer(START, self._give_up)
        self._too_late.daemon = True
        self._too_late.start()

    def _give_up(self) -> None:
        self._late.set()
        self._process.kill()

    def wait(self) -> LocalProcessCluster:
        """Wait until all workers are running.

        Raises
        ------
        RuntimeError
            If the cluster does not start.
        """
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                if line.startswith("{"):
                    threading.Thread(target=_drain, args=(self._process.stdout,), daemon=True).start()
                    return LocalProcessCluster(self._process, json.loads(line))
        except BaseException:
            self.discard()
            raise
        finally:
            self._too_late.cancel()
        code = self._process.wait()
        if self._late.is_set():
            raise RuntimeError(
                f"The local cluster did not start within {START:.0f} s. The machine or its disk is very busy, or security "
                "software holds the connections of the workers. Start fewer workers, or try again later."
            )
        raise RuntimeError(
            f"The local cluster did not start (exit code {code}). The lines above this error, on stderr, say why."
        )

    def discard(self) -> None:
        """End a cluster that is not needed after all. Its workers end with it."""
        self._too_late.cancel()
        self._process.kill()
        self._process.wait()


def _security(certificate: str, key: str) -> Security:
    from distributed.security import Security

    return Security(require_encryption=True, tls_ca_file=certificate, tls_client_cert=certificate, tls_client_key=key)


def _start(plan: dict[str, Any]) -> subprocess.Popen[str]:
    # Workers can import everything that this process can, including folders of scripts and editable installs.
    environment = {
        # Show warnings and errors only, without the error that every worker logs when a run is stopped.
        "DASK_LOGGING": '{"distributed": "warning", "distributed.worker.state_machine": "error"}',
        **os.environ,
        # A cluster that is killed leaves semaphores, which its resource tracker removes. Nobody needs to know.
        "PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), QUIET_TRACKER])),
        "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "napari_blockbuster.execution.local_cluster.process", json.dumps(plan)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # Models may print in any encoding.
        errors="backslashreplace",
        env=environment,
        # On Ctrl-C the driver stops the run first, and then the cluster.
        **new_session(),
    )


def _drain(stream: Any) -> None:
    # Pass output of models on to stderr: a full pipe would block the workers.
    for line in stream:
        sys.stderr.write(line)
