"""Dask cluster of a viewer, shared by preview and run. It starts when first needed and stops with the viewer. No Qt."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["ClusterChoice", "Session", "SessionCluster"]


CONNECT_SECONDS = 4.0
"""Time that a scheduler has to answer, while the user waits."""
LOOK_INTERVAL = 0.05
"""Seconds between two looks at the workers."""
NICENESS = 5
"""Of the workers on this machine, so that they do not slow down the viewer."""


@dataclass(frozen=True)
class ClusterChoice:
    """Cluster to run tiles on: the address of a scheduler, or processes on this machine.

    Attributes
    ----------
    n_workers : int
        0 chooses as many as suit the machine. Not used with GPUs.
    use_gpu : bool
        Start workers for each GPU.
    address : str
        Of a running scheduler. "" starts processes on this machine.
    workers_per_gpu : int
        0 chooses as many as its memory and the CPUs allow.
    """

    n_workers: int = 2
    use_gpu: bool = False
    address: str = ""
    workers_per_gpu: int = 0

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `make_local_cluster`."""
        if not self.use_gpu:
            return {"n_workers": self.n_workers or None}
        return {"use_gpu": True, **({"workers_per_gpu": self.workers_per_gpu} if self.workers_per_gpu else {})}

    def words(self) -> list[str]:
        """Return the options of the command line that choose this cluster."""
        if self.address:
            return ["--scheduler", self.address]
        words = []
        for name, value in self.arguments().items():
            option = "--gpu" if name == "use_gpu" else f"--{name.removeprefix('n_').replace('_', '-')}"
            words += [option] if value is True else [option, str(value)] if value is not None else []
        return words


class Session:
    """Holds at most one cluster. Thread-safe. The first call of `client` takes seconds: call it in a worker thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._choice: ClusterChoice | None = None
        self._client: Client | None = None
        self._cluster: Any = None
        self._closed = self._is_warm = False

    def client(self, choice: ClusterChoice) -> Client:
        """Return a client of the chosen cluster, after closing the cluster that was chosen before.

        Raises
        ------
        RuntimeError, ConnectionError, ValueError
            If the cluster cannot be started or reached.
        """
        from napari_blockbuster.execution.cluster import connect, make_local_cluster

        with self._lock:
            if self._closed:
                raise RuntimeError("The viewer is closed.")
            if self._client is not None and choice == self._choice and self._client.status == "running":
                return self._client
            self._stop()
            if choice.address:
                _check_scheduler(choice.address)
                self._client = connect(choice.address, timeout=CONNECT_SECONDS)
            else:
                self._client, self._cluster = make_local_cluster(**choice.arguments())
                _lower_priority(self._cluster.pid)
            self._choice = choice
            return self._client

    def warm_up(self, choice: ClusterChoice) -> None:
        """Start the chosen cluster in a thread, if it is one of this machine and none runs, and let it import what it needs."""
        if choice.address or self._is_warm:
            return
        self._is_warm = True

        def start() -> None:
            from napari_blockbuster.job.preview import warm_up

            # The step that needs the cluster reports why it does not start.
            with contextlib.suppress(Exception):
                if self._client is None:
                    client = self.client(choice)
                    warm_up(client)

        threading.Thread(target=start, name="blockbuster-warm-up").start()

    @property
    def dashboard_link(self) -> str:
        """Address of the dask dashboard, or ""."""
        return str(getattr(self._cluster, "dashboard_link", "") or getattr(self._client, "dashboard_link", "") or "")

    def wait_until_idle(self, seconds: float) -> None:
        """Wait until the workers have finished the tasks that a canceled run left running.

        dask forgets a canceled task at once, but cannot interrupt a worker that runs it.
        """
        with self._lock:
            client = self._client
        deadline = time.monotonic() + seconds
        while client is not None and client.status == "running" and time.monotonic() < deadline:
            # A cluster that is lost has no task left to wait for.
            try:
                running = client.run(_canceled_tasks, on_error="ignore")
            except (OSError, RuntimeError, TimeoutError):
                return
            if not any(running.values()):
                return
            time.sleep(LOOK_INTERVAL)

    def close(self) -> None:
        """Stop the cluster. The session cannot be used again."""
        with self._lock:
            self._closed = True
            self._stop()

    def close_soon(self) -> None:
        """Call `close` in a thread, because stopping a cluster takes a second."""
        threading.Thread(target=self.close, name="blockbuster-close").start()

    def _stop(self) -> None:
        client, cluster = self._client, self._cluster
        self._client = self._cluster = self._choice = None
        if client is not None:
            client.close(timeout=2)
        if cluster is not None:
            cluster.close()


class SessionCluster:
    """Cluster of a session that the next step runs on."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.choice = ClusterChoice()

    def client(self) -> Client:
        """Return a client, after starting the cluster if needed. For a thread."""
        return self.session.client(self.choice)


async def _canceled_tasks(dask_worker: Any) -> int:
    """Number of canceled tasks that this worker still runs."""
    return sum(task.state == "cancelled" for task in dask_worker.state.executing)


def _check_scheduler(address: str) -> None:
    """Check that a scheduler answers. dask itself retries for a minute, then waits without limit for a greeting.

    Raises
    ------
    ConnectionError
    """
    from distributed.comm.addressing import parse_address, parse_host_port

    try:
        scheme, place = parse_address(address)
        host, port = parse_host_port(place)
    except ValueError:
        # connect() reports the error.
        return
    if scheme not in ("tcp", "tls") or not port:
        return
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
            # A scheduler sends a greeting first; with TLS it waits for one.
            if scheme == "tcp" and not connection.recv(1):
                raise ConnectionError("the connection was closed")
    except OSError as error:
        raise ConnectionError(
            f"No dask scheduler answers at {address} ({error.strerror or error}). "
            "Correct the address, or clear it to use workers on this machine."
        ) from None


def _lower_priority(pid: int) -> None:
    """Lower the priority of a cluster's processes. Processes that it starts later inherit it."""
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            each.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else NICENESS)
