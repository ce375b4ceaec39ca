"""Suggested tiles for Cellpose: read boxes that fill whole network tiles, and whole batches of them, and fit into memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from napari_blockbuster.machine import limits
from napari_blockbuster.models.networks.device import Device

from .batch import BATCHES
from .memory import free_gpu_bytes
from .weights import weights_bytes

__all__ = ["NETWORK_DIAMETER", "SCALED_BYTES", "VOXEL_BYTES", "runs_of_network", "suggested_tile"]

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

    @property
    def mode(self) -> str: ...

    def scales(self, spacing: Sequence[float]) -> list[float]: ...


def suggested_tile(
    settings: TileSettings, shape: Sequence[int], spacing: Sequence[float], halo: Sequence[int]
) -> tuple[int, ...]:
    """Return a tile that fits into the memory of a worker, from one to eight network tiles along each side.

    Of those, it is the tile for which the network runs least often for each voxel: in whole batches, and with little halo.
    """
    budget = _free_bytes(settings) / 2
    network = 384 if "dino" in settings.weights else 256
    scales = settings.scales(spacing)
    axes = list(zip(shape, scales, halo, strict=True))
    best: tuple[float, tuple[int, ...]] | None = None
    for count in range(1, MOST + 1):
        # Whatever the memory: a tile is at least as long as its halo.
        tile = tuple(min(n, max(_core(n, s, h, network, count), h)) for n, s, h in axes)
        read = [min(t + 2 * h, n) for t, (n, _, h) in zip(tile, axes, strict=True)]
        if best is not None and math.prod(read) * (VOXEL_BYTES + SCALED_BYTES * math.prod(scales)) > budget:
            break
        scaled = [n * scale for n, scale in zip(read, scales, strict=True)]
        cost = runs_of_network(scaled, network, settings.mode) / math.prod(tile)
        if best is None or cost <= best[0]:
            best = cost, tile
    assert best is not None
    return best[1]


def runs_of_network(extents: Sequence[float], network: int, mode: str) -> int:
    """Return how often the network runs for a read box, with the smallest batch.

    Parameters
    ----------
    extents : sequence of float
        Extents of the read box at the scale of the network, (y, x) or (z, y, x).
    network : int
        Length of a network tile.
    mode : str
        Of a stack: the network sees its planes, or in "3d" the planes along all three axes.
    """
    # Cellpose pads each plane to a multiple of 16, and by 16 more. Its tiles overlap by a tenth on each side.
    padded = [STEP * math.ceil(n / STEP) + STEP for n in extents]
    tiles = [1 if n <= network else math.ceil(1.2 * n / network) for n in padded]
    if len(extents) == 2:
        return _runs(1, tiles[0] * tiles[1])
    views = ((0, 1, 2), (1, 0, 2), (2, 0, 1)) if mode == "3d" else ((0, 1, 2),)
    return sum(_runs(math.ceil(extents[axis]), tiles[a] * tiles[b]) for axis, a, b in views)


def _runs(planes: int, tiles: int) -> int:
    """Return the runs for planes of so many network tiles. Cellpose puts as many whole planes into a batch as it takes."""
    batch = BATCHES[0]
    return planes * math.ceil(tiles / batch) if tiles >= batch else math.ceil(planes / (batch // tiles))


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
