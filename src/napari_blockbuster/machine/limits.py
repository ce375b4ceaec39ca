"""Processors and memory that this process may use.

dask reads the same values, but importing it costs half a second, which a run without a cluster does not need.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from .system import control_group

__all__ = ["cpu_count", "memory_limit_bytes", "worker_limit_bytes"]

GROUPS = Path("/sys/fs/cgroup")
"""Control groups of Linux, with which batch systems and containers limit a process."""
MEMORY_FILES = ("memory.max", "memory.high", "memory/memory.limit_in_bytes", "memory/memory.soft_limit_in_bytes")
CPU_FILES = ("cpu.max", "cpu,cpuacct/cpu.cfs_quota_us", "cpuacct,cpu/cpu.cfs_quota_us")


@functools.cache
def cpu_count() -> int:
    """Return how many CPUs this process may use, within its affinity and cgroup quota."""
    import psutil

    affinity = getattr(psutil.Process(), "cpu_affinity", None)
    count = len(affinity()) if affinity is not None else (os.cpu_count() or 1)
    return max(1, min([count, *(math.ceil(quota) for quota in _cpu_quotas())]))


@functools.cache
def memory_limit_bytes() -> int:
    """Return the bytes of memory that this process may use, from the cgroup, the rlimit or the host."""
    import psutil

    limits = [int(psutil.virtual_memory().total), *_rlimit()]
    for file in _group_files(MEMORY_FILES):
        limits += [int(word) for word in _words(file)[:1] if word.isdigit() and int(word) > 0]
    return min(limits)


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


def _rlimit() -> list[int]:
    try:
        import resource
    except ImportError:
        return []
    hard = resource.getrlimit(resource.RLIMIT_RSS)[1]
    return [hard] if hard > 0 else []


def _cpu_quotas() -> Iterator[float]:
    """Yield the CPUs that each control group of this process allows."""
    for file in _group_files(CPU_FILES):
        # Version 2 has quota and period in one file.
        period = _words(file.with_name("cpu.cfs_period_us")) if file.name != "cpu.max" else []
        words = [*_words(file), *period]
        if len(words) == 2 and all(word.isdigit() and int(word) > 0 for word in words):
            yield int(words[0]) / int(words[1])


def _group_files(names: tuple[str, ...]) -> Iterator[Path]:
    """Yield files of the control group of this process and of all that it is in."""
    inner = GROUPS / control_group().strip("/")
    for folder in (inner, *inner.parents):
        if folder == GROUPS or GROUPS in folder.parents:
            for name in names:
                yield folder / name


def _words(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8", "replace").split()
    except OSError:
        return []
