"""Processors and memory that this process may use."""

from __future__ import annotations

import sys

__all__ = ["cpu_count", "memory_limit_bytes", "worker_limit_bytes"]


def cpu_count() -> int:
    """Return how many CPUs this process may use, within its affinity and cgroup quota."""
    from dask.system import CPU_COUNT

    return max(1, int(CPU_COUNT))


def memory_limit_bytes() -> int:
    """Return the bytes of memory that this process may use, from the cgroup, the rlimit or the host."""
    from distributed.system import MEMORY_LIMIT

    return int(MEMORY_LIMIT)


def worker_limit_bytes() -> int | None:
    """Return the bytes of memory beyond which dask ends this worker process; None outside a worker or without a limit."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        limit = get_worker().memory_manager.memory_limit
    except (ValueError, AttributeError):  # Not a worker, or a worker without a memory manager.
        return None
    return None if limit is None else int(limit)
