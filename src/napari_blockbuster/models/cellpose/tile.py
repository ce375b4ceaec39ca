"""Suggested tiles for Cellpose: read boxes that fill whole network tiles and fit into the memory of a worker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from napari_blockbuster.machine import limits
from napari_blockbuster.models.networks.device import Device

from .memory import free_gpu_bytes
from .weights import weights_bytes

__all__ = ["NETWORK_DIAMETER", "SCALED_BYTES", "VOXEL_BYTES", "suggested_tile"]

NETWORK_DIAMETER = 30.0
"""Diameter of an object in the image that the network sees, in pixels."""
VOXEL_BYTES, SCALED_BYTES = 120, 40
"""Working memory for each voxel of a read box (pixels, flows, their dynamics), and for each at the network's scale."""
STEP = 16
"""Suggested tiles are multiples of this, which keeps them aligned with the pyramid."""
MOST = 8
"""Network tiles along each side of a read box."""


class TileSettings(Protocol):
    """Settings that the size of a tile depends on."""

    weights: str
    device: Device

    def scales(self, spacing: Sequence[float]) -> list[float]: ...


def suggested_tile(
    settings: TileSettings, shape: Sequence[int], spacing: Sequence[float], halo: Sequence[int]
) -> tuple[int, ...]:
    """Return the largest tile that fits into the memory of a worker, from one to eight network tiles along each side."""
    budget = _free_bytes(settings) / 2
    network = 384 if "dino" in settings.weights else 256
    scales = settings.scales(spacing)
    axes = list(zip(shape, scales, halo, strict=True))
    best: tuple[int, ...] | None = None
    for count in range(1, MOST + 1):
        # Whatever the memory: a tile is at least as long as its halo.
        tile = tuple(min(n, max(_core(n, s, h, network, count), h)) for n, s, h in axes)
        voxels = math.prod(min(t + 2 * h, n) for t, (n, _, h) in zip(tile, axes, strict=True))
        if best is not None and voxels * (VOXEL_BYTES + SCALED_BYTES * math.prod(scales)) > budget:
            break
        best = tile
    return best or tuple(shape)


def _free_bytes(settings: TileSettings) -> float:
    """Return what a worker has left beside the weights: of its share of the host's memory, and of its GPU."""
    weights = weights_bytes(settings.weights)
    free = limits.memory_limit_bytes() / limits.cpu_count() - weights
    gpu = free_gpu_bytes() if settings.device in ("auto", "cuda") else None
    return max(0.0, free if gpu is None else min(free, gpu - weights))


def _core(size: int, scale: float, halo: int, network: int, count: int) -> int:
    """Return the length of a tile whose read box fills `count` network tiles along an axis."""
    # Cellpose pads by 16 and, with its overlap of 0.1, puts 1.2 tiles in the place of one.
    read = network - STEP if count == 1 else network * count / 1.2 - 2 * STEP
    if size * scale <= read:
        return size
    return max(STEP, int(read / scale - 2 * halo) // STEP * STEP)
