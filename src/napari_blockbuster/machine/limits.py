"""Processors, memory and GPUs that this process may use."""

from __future__ import annotations

import os
import subprocess
import sys

__all__ = ["cpu_count", "memory_limit_bytes", "visible_gpus", "worker_limit_bytes"]


def cpu_count() -> int:
    """CPUs that this process may use (affinity and cgroup quota respected)."""
    from dask.system import CPU_COUNT

    return max(1, int(CPU_COUNT))


def memory_limit_bytes() -> int:
    """Memory that this process may use, from the cgroup, the rlimit or the host."""
    from distributed.system import MEMORY_LIMIT

    return int(MEMORY_LIMIT)


def worker_limit_bytes() -> int | None:
    """Memory beyond which the dask worker that this process is gets ended; None if it is no worker, or has no limit."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        limit = get_worker().memory_manager.memory_limit
    except (ValueError, AttributeError):  # No worker; or one without a memory manager.
        return None
    return None if limit is None else int(limit)


def visible_gpus() -> list[str]:
    """The CUDA devices that this process may use, as entries for ``CUDA_VISIBLE_DEVICES``."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is not None:
        return [entry.strip() for entry in asked.split(",") if entry.strip() not in ("", "-1")]
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in listing.stdout.splitlines() if line.strip()]
