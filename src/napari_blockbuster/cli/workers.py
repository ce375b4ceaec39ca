"""Options of the processes that segment tiles, and the cluster that they describe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cyclopts import Parameter

from napari_blockbuster.job.shell import options

from .options import UsageError

if TYPE_CHECKING:
    from distributed import Client

    from napari_blockbuster.execution.local_cluster.starter import StartingCluster

__all__ = ["EarlyCluster", "WorkerOptions"]


@Parameter(name="*")
@dataclass(frozen=True)
class WorkerOptions:
    """Processes that segment the tiles.

    Attributes
    ----------
    workers
        Processes on this machine; 0 runs in this process. Default: one per CPU, or this process for a single tile.
    gpu
        Run workers on the GPUs of this machine, several on each as far as its memory and the CPUs allow.
    workers_per_gpu
        Workers that share a GPU, with --gpu. Default: automatic.
    scheduler
        Address of a running dask scheduler, such as tcp://host:8786, or path of its scheduler file.
    tile_timeout
        Time limit for a tile in seconds. Its process is terminated and the tile tried once more. Requires worker processes.
    """

    workers: int | None = None
    gpu: bool = False
    workers_per_gpu: int | None = None
    scheduler: str | None = None
    tile_timeout: float | None = None

    def check(self, detach: bool = False) -> None:
        """Raise an error if options contradict each other."""
        if detach and self.scheduler is None:
            raise UsageError("--detach needs --scheduler, because workers that this command starts end with it")
        if self.scheduler is not None and (self.gpu or self.workers is not None):
            raise UsageError("--scheduler uses the workers of that cluster. Leave out --workers and --gpu")
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"--workers is {self.workers}. Give a number of processes, or 0 to run in this process")
        if self.gpu and self.workers == 0:
            raise UsageError("--workers 0 runs in this process. Leave it out to run workers on the GPUs")
        if self.workers_per_gpu is not None and not self.gpu:
            raise UsageError("--workers-per-gpu needs --gpu")
        if self.workers_per_gpu is not None and self.workers_per_gpu < 1:
            raise UsageError(f"--workers-per-gpu is {self.workers_per_gpu}. Give a number of 1 or more")
        if self.tile_timeout is not None and not self.tile_timeout > 0:
            raise UsageError(f"--tile-timeout is {self.tile_timeout:g}. Give a number of seconds above 0")
        if self.tile_timeout is not None and self.workers == 0:
            raise UsageError("--tile-timeout needs worker processes. Give --workers 1 or more")

    @contextlib.contextmanager
    def connect(self, n_tiles: int, early: EarlyCluster | None = None) -> Iterator[Client | None]:
        """Yield the client of a cluster, or None for this process. The cluster is closed at the end, also after an error.

        Parameters
        ----------
        n_tiles : int
        early : EarlyCluster, optional
            A cluster that may be starting already.
        """
        self.check()
        if self.scheduler is not None:
            with _connected(self.scheduler) as remote:
                yield remote
            return
        n_workers = self._processes(n_tiles)
        if n_workers == 0:
            yield None
            return
        from napari_blockbuster.execution.cluster import connect_to

        client, cluster = connect_to((early and early.take()) or self._begin(n_workers))
        try:
            yield client
        finally:
            # The client would log an error if the scheduler closed first.
            with contextlib.suppress(Exception):
                client.close(timeout=2)
            cluster.close()

    def _begin(self, n_workers: int | None) -> StartingCluster:
        from napari_blockbuster.execution.cluster import begin_local_cluster

        return begin_local_cluster(self.gpu, n_workers, workers_per_gpu=self.workers_per_gpu or "auto")

    def _processes(self, n_tiles: int) -> int | None:
        if self.workers is not None or self.gpu:
            return self.workers
        from napari_blockbuster.machine.limits import cpu_count

        wanted = min(cpu_count(), n_tiles)
        return wanted if wanted > 1 or (wanted == 1 and self.tile_timeout is not None) else 0

    def options(self) -> list[str]:
        """Return the options as typed on the command line."""
        return options(
            workers=self.workers,
            gpu=self.gpu,
            workers_per_gpu=self.workers_per_gpu,
            scheduler=self.scheduler,
            tile_timeout=self.tile_timeout,
        )


class EarlyCluster:
    """A local cluster that starts while the image is opened and the model prepared.

    Ended when the context is left, if no run took it.
    """

    def __init__(self, workers: WorkerOptions) -> None:
        self._workers = workers
        self._starting: StartingCluster | None = None

    def begin(self, n_tiles: int) -> None:
        """Start the cluster for a run of this many tiles, if it needs one."""
        if self._starting is None and self._workers.scheduler is None:
            n_workers = self._workers._processes(n_tiles)
            if n_workers != 0:
                self._starting = self._workers._begin(n_workers)

    def take(self) -> StartingCluster | None:
        """Return the cluster if it is starting. From now on it belongs to the caller."""
        starting, self._starting = self._starting, None
        return starting

    def __enter__(self) -> EarlyCluster:
        if self._workers.workers or self._workers.gpu:
            self.begin(1)
        return self

    def __exit__(self, *_: object) -> None:
        if (unused := self.take()) is not None:
            unused.discard()


@contextlib.contextmanager
def _connected(scheduler: str) -> Iterator[Client]:
    """Yield a client of a running scheduler."""
    from napari_blockbuster.execution.cluster import connect, scheduler_address

    address = scheduler_address(scheduler)
    _check_connection(address)
    client = connect(address, timeout=30)
    try:
        yield client
    finally:
        # A scheduler that does not answer must not keep this process.
        with contextlib.suppress(Exception):
            client.close(timeout=5)


def _check_connection(address: str) -> None:
    """Raise an error at once if nothing listens at an address. dask retries until its timeout."""
    import socket
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise UsageError(f"--scheduler is {address!r}. Give an address such as tcp://host:8786")
    try:
        socket.create_connection((host, port), timeout=30).close()
    except OSError as error:
        why = f"No dask scheduler answers at {address} ({error.strerror or error})"
        raise ConnectionError(f"{why}. Start one with: dask scheduler") from None
