"""The background cluster of a viewer: started when first needed, shared by preview and run, gone with the viewer. No Qt."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["ClusterChoice", "Session"]


CONNECT_SECONDS = 10.0
"""How long a scheduler may take to answer. A viewer's user waits for it."""
NICENESS = 5
"""Of the workers beside the viewer: what the user does comes first, and all else is theirs."""


@dataclass(frozen=True)
class ClusterChoice:
    """Where tiles run: a scheduler's address, or processes on this machine."""

    n_workers: int = 2
    use_gpu: bool = False
    address: str = ""


class Session:
    """Holds at most one cluster. Thread-safe; `client` takes seconds at first and belongs in a worker thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._choice: ClusterChoice | None = None
        self._client: Client | None = None
        self._cluster: Any = None
        self._closed = False

    def client(self, choice: ClusterChoice) -> Client:
        """A client of the chosen cluster; one that was chosen before is closed first.

        Raises
        ------
        RuntimeError, ConnectionError, ValueError
            If it cannot be had; the message says why.
        """
        from napari_blockbuster.execution.cluster import connect, make_local_cluster

        with self._lock:
            if self._closed:
                raise RuntimeError("the viewer is closed")
            if self._client is not None and choice == self._choice and self._client.status == "running":
                return self._client
            self._stop()
            if choice.address:
                _knock(choice.address)
                self._client = connect(choice.address, timeout=CONNECT_SECONDS)
            else:
                self._client, self._cluster = make_local_cluster(choice.use_gpu, choice.n_workers or None)
                _step_back(self._cluster.pid)
            self._choice = choice
            return self._client

    @property
    def dashboard_link(self) -> str:
        """Address of the dask dashboard, "" if there is none."""
        return str(getattr(self._cluster, "dashboard_link", "") or getattr(self._client, "dashboard_link", "") or "")

    def close(self) -> None:
        """Stop everything. The session cannot be used again."""
        with self._lock:
            self._closed = True
            self._stop()

    def close_soon(self) -> None:
        """`close` in a thread: stopping a cluster takes a second."""
        threading.Thread(target=self.close, name="blockbuster-close").start()

    def _stop(self) -> None:
        client, cluster = self._client, self._cluster
        self._client = self._cluster = self._choice = None
        if client is not None:
            client.close(timeout=2)
        if cluster is not None:
            cluster.close()


def _knock(address: str) -> None:
    """Refuse an address at which no scheduler answers: dask tries again for a minute, and waits for ever for its first word.

    Raises
    ------
    ConnectionError
    """
    from distributed.comm.addressing import parse_address, parse_host_port

    try:
        scheme, place = parse_address(address)
        host, port = parse_host_port(place)
    except ValueError:
        # connect() says what is wrong with it.
        return
    if scheme not in ("tcp", "tls") or not port:
        return
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as there:
            # A scheduler greets whoever connects; with TLS it waits for a greeting.
            if scheme == "tcp" and not there.recv(1):
                raise ConnectionError("the connection was closed")
    except OSError as error:
        raise ConnectionError(
            f"No dask scheduler answers at {address} ({error.strerror or error}). "
            "Correct the address, or clear it to use workers on this machine."
        ) from None


def _step_back(pid: int) -> None:
    """Lower the priority of a cluster's processes; those that it starts later inherit it."""
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            each.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS if sys.platform == "win32" else NICENESS)
