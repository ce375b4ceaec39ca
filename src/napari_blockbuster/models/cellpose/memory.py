"""How much memory a network takes: measured when it is loaded; what of it is free, on the GPU and in this process."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_blockbuster.machine.gpus import gpu_table, visible_devices
from napari_blockbuster.machine.peak_memory import PeakMemory

__all__ = ["Footprint", "free_gpu_bytes", "measure"]

ROOM = 0.8
"""Part of the free memory that a batch may take: post-processing and fragmentation want the rest."""
MIB = 2**20


@dataclass(frozen=True)
class Footprint:
    """What a loaded network takes and what is left, in bytes of the device that it is on.

    Attributes
    ----------
    weights : int
        Parameters and buffers.
    entry : int
        Activations for each network tile of a batch: the most that one pass took beyond what was there before.
    free : int
        What was left for this process once the weights were loaded.
    """

    weights: int
    entry: int
    free: int

    def batch(self, most: int) -> int:
        """Network tiles at once: at most `most`, as many as fit, at least 1."""
        return max(1, min(most, int(self.free * ROOM) // max(self.entry, 1)))

    def __str__(self) -> str:
        return (
            f"weights {self.weights / MIB:,.0f} MiB, {self.entry / MIB:,.0f} MiB for each network tile of a batch, "
            f"{self.free / MIB:,.0f} MiB free"
        )


def measure(net: Any, device: Any, side: int, channels: int) -> Footprint:
    """Run a network on one blank tile of its own size, and see what that takes.

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
        On CUDA from torch's own count; elsewhere from the resident memory of the process, looked at every two
        milliseconds: with what its first pass sets up once and for all, so rather too much than too little.
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


def _peak_on_cuda(run: Callable[[], None], device: Any) -> int:
    import torch

    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return int(torch.cuda.max_memory_allocated(device) - before)


def free_bytes(device: Any) -> int:
    """What this process may still take: of the GPU's memory, or of the host's within a worker's limit."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        # What torch keeps for later is free to it as well.
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    import psutil

    from napari_blockbuster.machine.limits import worker_limit_bytes

    limit = worker_limit_bytes()
    left = psutil.virtual_memory().available
    return max(0, int(left if limit is None else min(left, limit - psutil.Process().memory_info().rss)))


def free_gpu_bytes() -> int | None:
    """Free memory of the fullest CUDA device that this process may use; None without one. Imports no torch.

    Asks ``nvidia-smi`` at most once in half a minute.
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
