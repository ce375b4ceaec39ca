"""Process clusters: start one next to this process, connect to others, and check them."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_blockbuster.execution.local_cluster.starter import LocalProcessCluster, StartingCluster
from napari_blockbuster.machine.gpus import Share, gpu_table, visible_gpus
from napari_blockbuster.machine.limits import cpu_count, memory_limit_bytes
from napari_blockbuster.machine.processes import place_of_this_process

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

__all__ = [
    "LocalProcessCluster",
    "check_client",
    "check_is_usable",
    "connect",
    "make_local_cluster",
    "scheduler_address",
]

GPU_WORKER = 6 * 2**30
"""Memory of a GPU for each worker that shares it: a large network with a batch, the masks of a tile, and CUDA itself."""
MOST_PER_GPU = 4
"""Workers that keep a GPU busy."""
SUSPECT = 60.0
"""Seconds for a worker with the process id of this process to say on which host it is."""
IN_PROCESS = (
    "Active Dask client uses an in-process worker (processes=False). This breaks the label merge when fn holds the GIL. "
    "Use a process-based cluster instead: "
    "from napari_blockbuster import make_local_cluster; client, cluster = make_local_cluster()"
)


def make_local_cluster(
    use_gpu: bool = False,
    n_workers: int | None = None,
    memory_limit: str | int = "auto",
    workers_per_gpu: int | Literal["auto"] = "auto",
) -> tuple[Client, LocalProcessCluster]:
    """Start a process cluster on this machine, with one thread for each worker.

    Parameters
    ----------
    use_gpu : bool, default False
        Start workers for each visible GPU. Each worker sees only its own GPU (``CUDA_VISIBLE_DEVICES``).
    n_workers : int, optional
        Worker processes. Default: the CPUs that this process may use, or `workers_per_gpu` for each GPU.
    memory_limit : "auto", str or int, default "auto"
        Memory of each worker, as "4 GiB" or bytes. "auto" divides 90 % of the container's or host's memory among them.
    workers_per_gpu : int or "auto", default "auto"
        Workers that share a GPU, each with its share of the memory: while one makes objects of flows on the CPU, the others use
        the GPU. "auto": up to four, as CPUs and memory allow. A worker whose network does not fit then gets no tiles.

    Returns
    -------
    client : distributed.Client
        Not set as dask's default client, so that other dask work in this process is not affected.
    cluster : LocalProcessCluster
        Close it when done: ``client.close(); cluster.close()``.

    Raises
    ------
    RuntimeError
        If `use_gpu` finds no GPU, or the cluster does not start.
    ValueError
        If `n_workers` or `workers_per_gpu` is not positive, or more workers are asked for than the GPUs serve.
    """
    return connect_to(begin_local_cluster(use_gpu, n_workers, memory_limit, workers_per_gpu))


def begin_local_cluster(
    use_gpu: bool = False,
    n_workers: int | None = None,
    memory_limit: str | int = "auto",
    workers_per_gpu: int | Literal["auto"] = "auto",
) -> StartingCluster:
    """Start a process cluster and return at once; `connect_to` waits for it. See `make_local_cluster`."""
    gpus, share = _gpus_for(n_workers, workers_per_gpu) if use_gpu else ([], Share(1, False))
    workers = len(gpus) if use_gpu else (cpu_count() if n_workers is None else n_workers)
    if workers < 1:
        raise ValueError(f"n_workers is {workers}. A cluster needs at least 1 worker")
    plan = {
        "n_workers": workers,
        "memory_limit": _memory_of_each(memory_limit, workers),
        "threads": max(1, cpu_count() // workers),
        "gpus": gpus,
        "gpu_share": str(share),
    }
    return StartingCluster(plan)


def connect_to(starting: StartingCluster) -> tuple[Client, LocalProcessCluster]:
    """Wait for a cluster that is starting, and connect to it; see `make_local_cluster`."""
    cluster = starting.wait()
    try:
        return connect(cluster.scheduler_address, n_workers=cluster.n_workers, security=cluster.security), cluster
    except BaseException:
        cluster.close()
        raise


def connect(address: str, *, n_workers: int = 0, timeout: float = 60.0, security: Security | None = None) -> Client:
    """Connect to a scheduler, without making it dask's default client, and check that its workers are processes.

    Parameters
    ----------
    address : str
        ``tcp://host:8786``, ``tls://host:8786`` if the scheduler requires certificates, or the path of a scheduler file.
    n_workers : int, default 0
        Wait for this many workers.
    timeout : float, default 60
        Seconds.
    security : distributed.security.Security, optional
        Certificates. Default: those in dask's configuration (``distributed.comm.tls``).

    Raises
    ------
    ConnectionError
        If there is no scheduler at that address.
    RuntimeError
        If a worker runs in this process, or too few workers start.
    """
    from .client import Client as CleanClient

    address = scheduler_address(address)
    try:
        client: Client = CleanClient(address, set_as_default=False, timeout=timeout, security=security)
    except TypeError as error:
        # dask raises this for a tls:// address if its configuration has no certificates.
        raise ConnectionError(
            f"the dask scheduler at {address!r} requires TLS certificates, and dask's configuration here has none. "
            "Set distributed.comm.tls.ca-file and distributed.comm.tls.client.cert and key, or pass client= (in Python)"
        ) from error
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"no dask scheduler answers at {address!r} ({error}). Start one with `dask scheduler`, or leave the address out"
        ) from error
    try:
        if n_workers:
            _wait_for_workers(client, n_workers, timeout)
        check_client(client)
    except BaseException:
        client.close()
        raise
    return client


def check_is_usable(client: Any) -> None:
    """Refuse objects that are not clients, and clients whose methods return coroutines.

    Raises
    ------
    TypeError
        If it is not a client.
    ValueError
        If it is asynchronous.
    """
    from distributed import Client

    if not isinstance(client, Client):
        raise TypeError(
            f"client is a {type(client).__name__}. Pass a distributed.Client, as the one that "
            "make_local_cluster() returns, or Client('tcp://host:8786')"
        )
    if client.asynchronous:
        raise ValueError(
            "The client is asynchronous (asynchronous=True, or created inside a coroutine), and a run needs one that waits "
            "for its results. In a coroutine, run the call in a thread with a client of its own: "
            f"Client({client.scheduler.address if client.scheduler else 'address'!r}, asynchronous=False)"
        )


def scheduler_address(given: str) -> str:
    """Return the address of a scheduler: as given, or from a file of ``dask scheduler --scheduler-file``.

    Raises
    ------
    ConnectionError
        If there is such a file and it has no address.
    """
    path = Path(given)
    if "://" in given or not path.is_file():
        return given
    try:
        return str(json.loads(path.read_bytes())["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConnectionError(
            f"{path} is not a dask scheduler file ({type(error).__name__}: {error}). Write one with: "
            "dask scheduler --scheduler-file FILE"
        ) from error


def _wait_for_workers(client: Client, n_workers: int, timeout: float) -> None:
    try:
        client.wait_for_workers(n_workers, timeout=timeout)
    except TimeoutError:
        raise RuntimeError(
            f"{len(client.nthreads())} of {n_workers} workers came up within {timeout:.0f} s. "
            "Start more workers, or ask for fewer"
        ) from None


def check_client(client: Client) -> None:
    """Refuse a client with a worker that runs in this process.

    Compares the process id and the host of each worker with those of this process: for a client made from an address, neither
    the protocol nor ``client.cluster`` shows where its workers run. The scheduler knows the process ids, so that only workers
    with the id of this process are asked for their host.

    Raises
    ------
    RuntimeError
        If a worker runs in this process. The message says how to start a process cluster.
    TypeError, ValueError
        If it is not a client, or an asynchronous one.
    """
    from .waits import ask, lost

    check_is_usable(client)
    here = place_of_this_process()
    try:
        pids = ask(lambda: _worker_pids(client))
        suspects = [worker for worker, pid in pids.items() if pid == here[1]]
        if not suspects:
            return
        # A worker that cannot answer is not in this process. It is checked before it gets a tile.
        call = functools.partial(client.run, place_of_this_process, workers=suspects, on_error="return")
        places = ask(call, f"worker {suspects[0]}", SUSPECT)
    except (OSError, TimeoutError) as error:
        raise lost(str(error)) from error
    if any(isinstance(place, list | tuple) and tuple(place) == here for place in places.values()):
        raise RuntimeError(IN_PROCESS)


def _worker_pids(client: Client) -> dict[str, int]:
    """Return the process id of each worker, as the scheduler knows it."""
    # A lambda travels by value: a scheduler needs no napari-blockbuster of its own.
    known: dict[str, int] = client.run_on_scheduler(
        lambda dask_scheduler: {worker.address: worker.pid for worker in dask_scheduler.workers.values()}
    )
    return known


# ------------------------------------------------------------------------------------------------------------- limits
def _gpus_for(n_workers: int | None, per_gpu: int | Literal["auto"]) -> tuple[list[str], Share]:
    """Return the GPU of each worker, and how many workers share one."""
    gpus = visible_gpus()
    if not gpus:
        raise RuntimeError(
            "use_gpu=True, but no CUDA GPU is visible (nvidia-smi lists none, or CUDA_VISIBLE_DEVICES hides them). "
            "Install the NVIDIA driver or call make_local_cluster() without use_gpu"
        )
    if per_gpu != "auto" and (not isinstance(per_gpu, int) or per_gpu < 1):
        raise ValueError(f'workers_per_gpu is {per_gpu!r}. It must be 1 or more, or "auto"')
    share = Share(_most_per_gpu(len(gpus)) if per_gpu == "auto" else per_gpu, per_gpu == "auto")
    most = len(gpus) * share.workers
    if n_workers is not None and n_workers > most:
        raise ValueError(
            f"n_workers is {n_workers}, but {len(gpus)} GPUs take {most} workers. Ask for fewer, or let more workers share a GPU "
            "(workers_per_gpu)."
        )
    # One worker for each GPU first, so that few workers are on different GPUs.
    return (gpus * share.workers)[:n_workers], share


def _most_per_gpu(n_gpus: int) -> int:
    """Return how many workers may share a GPU: as many as keep it busy, and have two CPUs each and memory on the GPU."""
    memory = [int(mebibytes) * 2**20 for (mebibytes,) in gpu_table("memory.total") if mebibytes.isdigit()]
    room = min(memory, default=0) // GPU_WORKER
    return max(1, min(MOST_PER_GPU, room, cpu_count() // (2 * n_gpus)))


def _memory_of_each(memory_limit: str | int, n_workers: int) -> int:
    from dask.utils import parse_bytes

    if memory_limit == "auto":
        # A tenth remains for the scheduler, the driver and the page cache.
        return int(memory_limit_bytes() * 0.9 / n_workers)
    return int(parse_bytes(memory_limit))
