"""Process of a local cluster: ``python -m napari_blockbuster.execution.local_cluster.process PLAN``.

It prints one line of JSON once the workers are running, and stops when its standard input ends. The line contains the private
key of the cluster. The key is only sent through the pipe, never written to a file or a command line that others can read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import sys
from collections.abc import Mapping
from multiprocessing import forkserver
from typing import Any

from napari_blockbuster.machine.gpus import GPU_SHARE

from .worker_log import CLUSTER

LOOK = 1.0
"""Seconds between two checks of the workers."""
FORKS = sys.platform == "linux"
"""Whether workers are forked from a process that has imported what they need. Not safe on macOS, not possible on Windows."""
PRELOADED = (
    "distributed.worker",
    "distributed.nanny",
    "napari_blockbuster.execution.local_cluster.worker_log",
    "napari_blockbuster.stage.work",
)
"""Modules that start no thread when they are imported."""


async def _serve(plan: dict[str, Any]) -> None:
    from distributed import Nanny, Scheduler, SpecCluster
    from distributed.security import Security

    # Every user of a machine can connect to its loopback ports, and a scheduler runs any code that it receives.
    security = Security.temporary()
    local = {"host": "127.0.0.1", "protocol": "tls://", "security": security}
    workers = {
        i: {
            "cls": Nanny,
            "options": {
                **local,
                "nthreads": 1,
                "memory_limit": plan["memory_limit"],
                "env": _environment(plan, i),
                "preload": ["napari_blockbuster.execution.local_cluster.worker_log"],
            },
        }
        for i in range(plan["n_workers"])
    }
    scheduler = {"cls": Scheduler, "options": {**local, "port": 0, "dashboard_address": "127.0.0.1:0"}}
    async with SpecCluster(workers=workers, scheduler=scheduler, security=security, asynchronous=True) as cluster:
        hello = {
            "address": cluster.scheduler_address,
            "dashboard": cluster.dashboard_link or "",
            "n_workers": plan["n_workers"],
            "certificate": security.tls_client_cert,
            "key": security.tls_client_key,
        }
        print(json.dumps(hello), flush=True)
        reviving = asyncio.create_task(_revive(cluster.workers))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        reviving.cancel()
        # Closed on purpose: a nanny would warn of each worker that ends slowly, in the middle of the user's output.
        logging.getLogger("distributed.nanny").setLevel(logging.ERROR)


async def _revive(nannies: Mapping[Any, Any]) -> None:
    """Restart workers that their nanny has given up.

    A nanny restarts a worker that dies, except if it dies before the nanny knows that it has started. This happens when a tile
    that kills its worker is sent to the next worker right away.
    """
    from distributed import Status

    gone: set[Any] = set()
    while True:
        await asyncio.sleep(LOOK)
        now = {name for name, nanny in nannies.items() if nanny.process and nanny.process.status == Status.stopped}
        # Stopped at two checks in a row: the nanny is not restarting the worker itself.
        for name in gone & now:
            with contextlib.suppress(Exception):
                await nannies[name].instantiate()
        gone = now


def _environment(plan: dict[str, Any], worker: int) -> dict[str, str]:
    """Return the process of the cluster, for `worker_log`, the GPU of a worker, and how many others it shares it with."""
    if not plan["gpus"]:
        return {CLUSTER: str(os.getpid())}
    return {CLUSTER: str(os.getpid()), "CUDA_VISIBLE_DEVICES": plan["gpus"][worker], GPU_SHARE: plan["gpu_share"]}


def _threads(plan: dict[str, Any]) -> dict[str, str]:
    """Return the variables that give all workers together as many threads as there are CPUs.

    Otherwise their linear algebra competes. The libraries read these variables when they are loaded, so they are set before a
    worker starts.
    """
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return dict.fromkeys(variables, str(plan["threads"]))


def _configuration(plan: dict[str, Any]) -> dict[str, Any]:
    return {
        "distributed.nanny.pre-spawn-environ": _threads(plan),
        # The number of tiles in flight bounds the memory; spilling a tile to disk would only hide a leak.
        "distributed.worker.memory.spill": False,
        # The driver tries a tile that killed two workers once more, alone. More deaths would give no more information.
        "distributed.scheduler.allowed-failures": 1,
        "distributed.worker.memory.target": False,
        "distributed.worker.multiprocessing-method": "forkserver" if FORKS else "spawn",
        # By default a worker that takes longer than 15 s to restart (on a busy machine) is removed.
        "distributed.deploy.lost-worker-timeout": "1 day",
    }


def _start_fork_server(plan: dict[str, Any]) -> None:
    """Start the process that workers are forked from. It imports dask and the engine while this process does the same.

    A new interpreter for each worker would import them once more.
    """
    if not FORKS:
        return
    os.environ.update(_threads(plan))
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(PRELOADED))
    forkserver.ensure_running()


if __name__ == "__main__":
    plan = json.loads(sys.argv[1])
    _start_fork_server(plan)

    import dask
    import distributed.utils

    # dask would import each of its optional packages here, to preload it.
    distributed.utils._forkserver_preload_set = True
    dask.config.set(_configuration(plan))
    asyncio.run(_serve(plan))
