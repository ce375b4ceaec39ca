"""Memory of the network: how much it uses, measured when it is loaded, and how much is free."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_blockbuster.machine.gpus import gpu_share, gpu_table, visible_devices
from napari_blockbuster.machine.memory.peak_memory import PeakMemory

__all__ = ["Footprint", "check_share", "free_gpu_bytes", "measure"]

ROOM = 0.8
"""Part of the free memory that a batch may use. The rest is for post-processing and fragmentation."""
OVERHEAD = 2**30
"""Memory of a GPU that a process uses beside its network: CUDA itself, and the masks of a tile."""
MIB = 2**20


@dataclass(frozen=True)
class Footprint:
    """Memory use of a loaded network, in bytes on its device.

    Attributes
    ----------
    weights : int
        Parameters and buffers.
    entry : int
        Activations for each network tile of a batch: the peak of one pass.
    free : int
        Memory left for this process after the weights were loaded.
    """

    weights: int
    entry: int
    free: int

    def batch(self, most: int) -> int:
        """Return how many network tiles fit at once: at least 1, at most `most`."""
        return max(1, min(most, int(self.free * ROOM) // max(self.entry, 1)))

    def __str__(self) -> str:
        return (
            f"weights {self.weights / MIB:,.0f} MiB, {self.entry / MIB:,.0f} MiB for each network tile of a batch, "
            f"{self.free / MIB:,.0f} MiB free"
        )


def measure(net: Any, device: Any, side: int, channels: int) -> Footprint:
    """Measure the memory that a network needs for one blank network tile.

    Parameters
    ----------
    net : torch.nn.Module
        On `device`.
    device : torch.device
    side : int
        Extent of a network tile, in pixels.
    channels : int
        Channels of the image.

    Returns
    -------
    Footprint
        On CUDA from torch's own statistics. Elsewhere from the resident memory of the process, read every two
        milliseconds. This includes what the first pass allocates once, so the result is rather too high than too low.
    """
    from cellpose import core

    blank = np.zeros((1, channels, side, side), np.float32)
    weights = sum(p.numel() * p.element_size() for p in (*net.parameters(), *net.buffers()))

    def once() -> None:
        core._forward(net, blank)

    if device.type == "cuda":
        return Footprint(int(weights), _peak_on_cuda(once, device), free_bytes(device))
    with PeakMemory() as peak:
        once()
    return Footprint(int(weights), peak.rise, free_bytes(device))


def check_share(footprint: Footprint, device: Any) -> None:
    """Refuse a network that does not fit beside those of the other workers on its GPU.

    Raises
    ------
    MemoryError
        With what a worker needs, and how many workers fit.
    """
    share = gpu_share()
    if device.type != "cuda" or share.workers == 1:
        return
    import torch

    free, total = torch.cuda.mem_get_info(device)
    needed = footprint.weights + footprint.entry + OVERHEAD
    if share.fewer_will_do:
        # What this process holds already is not free.
        if free < footprint.entry + OVERHEAD / 2:
            raise MemoryError(
                f"the GPU has {free / MIB:,.0f} MiB left beside the other workers on it, and the network of one more needs "
                f"{needed / MIB:,.0f} MiB"
            )
    elif needed * share.workers > total:
        fitting = max(1, int(total // needed))
        raise MemoryError(
            f"{share.workers} workers share a GPU of {total / MIB:,.0f} MiB, and each needs {needed / MIB:,.0f} MiB "
            f"({footprint}). At most {fitting} fit: workers_per_gpu={fitting} (--workers-per-gpu {fitting})"
        )


def _peak_on_cuda(run: Callable[[], None], device: Any) -> int:
    import torch

    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return int(torch.cuda.max_memory_allocated(device) - before)


def free_bytes(device: Any) -> int:
    """Return the memory that this process may still use: on the GPU, or on the host within a worker's limit."""
    if device.type == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info(device)
        allocated = torch.cuda.memory_allocated(device)
        # Memory that torch caches is free for torch.
        free += torch.cuda.memory_reserved(device) - allocated
        share = total / gpu_share().workers - OVERHEAD - allocated
        return max(0, int(free if gpu_share().workers == 1 else min(free, share)))
    import psutil

    from napari_blockbuster.machine.limits import worker_limit_bytes

    limit = worker_limit_bytes()
    left = psutil.virtual_memory().available
    return max(0, int(left if limit is None else min(left, limit - psutil.Process().memory_info().rss)))


def free_gpu_bytes() -> int | None:
    """Return the free memory of the fullest CUDA device that this process may use, or None without one.

    Does not import torch. Runs ``nvidia-smi`` at most once in half a minute.
    """
    visible = visible_devices()
    return _ask_nvidia(None if visible is None else tuple(visible), int(time.monotonic() // 30))


@functools.lru_cache(maxsize=4)
def _ask_nvidia(visible: tuple[str, ...] | None, _when: int) -> int | None:
    free = [
        int(mebibytes) * MIB
        for index, uuid, mebibytes in gpu_table("index", "uuid", "memory.free")
        if mebibytes.isdigit() and (visible is None or any(index == v or uuid.startswith(v) for v in visible))
    ]
    return min(free, default=None)
