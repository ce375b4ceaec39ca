"""Blocks that stand for a whole image, and the digest of their pixels."""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box

__all__ = ["digest_of", "frame_box", "spread_blocks"]


def digest_of(*parts: Any) -> str:
    """Return the digest of bytes, arrays, and the text of anything else."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(part if isinstance(part, bytes) else str(part).encode())
    return digest.hexdigest()


def frame_box(shape: tuple[int, ...], t: int) -> Box:
    """Return the box of one point in time."""
    return Box((t, *[0] * (len(shape) - 1)), (t + 1, *shape[1:]))


def spread_blocks(shape: tuple[int, ...], block: tuple[int, ...], max_voxels: int) -> list[Box]:
    """Return blocks on a regular lattice through the image, about `max_voxels` in all."""
    wanted = max(1, max_voxels // math.prod(block))
    available = [max(1, n // b) for n, b in zip(shape, block, strict=True)]
    steps = [1] * len(shape)
    while math.prod(steps) < wanted and any(s < a for s, a in zip(steps, available, strict=True)):
        # The axis on which blocks lie furthest apart gets one more.
        axis = max(
            (i for i in range(len(shape)) if steps[i] < available[i]), key=lambda i: shape[i] / block[i] / steps[i]
        )
        steps[axis] += 1
    starts = [
        # Whole blocks, in the middle of equal stretches.
        sorted({min(int((k + 0.5) * n / s - b / 2) // b * b, n - b) if n > b else 0 for k in range(s)})
        for n, b, s in zip(shape, block, steps, strict=True)
    ]
    return [Box(start, tuple(a + b for a, b in zip(start, block, strict=True))) for start in itertools.product(*starts)]
