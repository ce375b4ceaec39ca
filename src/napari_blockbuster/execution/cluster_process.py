"""The interpreter that holds a local cluster: ``python -m napari_blockbuster.execution.cluster_process PLAN``.

It prints one line of JSON once the workers are up, and stops when its standard input ends. That line holds the private key
of the cluster: it travels through the pipe only, and never lies in a file that others can read or on a command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from typing import Any

LOOK = 1.0
"""Seconds between two looks at the workers."""


async def _serve(plan: dict[str, Any]) -> None:
    from distributed import Nanny, Scheduler, SpecCluster
    from distributed.security import Security

    # Every user of a machine can connect to its loopback ports, and a scheduler runs whatever code it is sent.
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


async def _revive(nannies: Mapping[Any, Any]) -> None:
    """Start workers anew that their nanny has given up.

    A nanny restarts a worker that dies, but not one that dies before the nanny has heard that it is up: a tile that kills
    its worker at once comes to the next worker in that very moment.
    """
    from distributed import Status

    gone: set[Any] = set()
    while True:
        await asyncio.sleep(LOOK)
        now = {name for name, nanny in nannies.items() if nanny.process and nanny.process.status == Status.stopped}
        # Seen twice: no restart of the nanny's own is under way.
        for name in gone & now:
            with contextlib.suppress(Exception):
                await nannies[name].instantiate()
        gone = now


def _environment(plan: dict[str, Any], worker: int) -> dict[str, str]:
    return {"CUDA_VISIBLE_DEVICES": plan["gpus"][worker]} if plan["gpus"] else {}


def _configuration(plan: dict[str, Any]) -> dict[str, Any]:
    # As many threads in all as there are CPUs: linear algebra of one worker must not fight that of another. Its
    # libraries read these when they load, so they are set before a worker is spawned.
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(variables, str(plan["threads"])),
        # Memory is bounded by the window of tiles in flight; spilling a tile to disk would only hide a leak.
        "distributed.worker.memory.spill": False,
        # A tile that killed two workers is tried once more, alone, by the driver; four deaths tell no more than two.
        "distributed.scheduler.allowed-failures": 1,
        "distributed.worker.memory.target": False,
        # By default a worker that takes longer than 15 s to come back (a busy machine) is dropped for good.
        "distributed.deploy.lost-worker-timeout": "1 day",
    }


if __name__ == "__main__":
    import dask

    plan = json.loads(sys.argv[1])
    dask.config.set(_configuration(plan))
    asyncio.run(_serve(plan))
