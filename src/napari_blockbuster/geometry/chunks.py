"""Shapes of the chunks that tiles are stored in."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["browse_chunk", "finest_block", "rounded_up"]

USUAL, MOST = 2**25, 2**28
"""Voxels of a block that is read and held at a time: usual, and to hold a large chunk."""


def browse_chunk(tile_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the inner chunk of a shard that holds a tile, small enough to read one plane without decoding the whole tile.

    Along each axis the largest divisor of the tile's extent up to 64 (256 where at most two axes are longer than one voxel);
    the whole extent where its divisors are all tiny (a prime extent), since a shard of slivers costs more than it saves.
    """
    target = 64 if sum(n > 1 for n in tile_shape) > 2 else 256
    chunk = []
    for n in tile_shape:
        best = max(d for d in range(1, min(n, target) + 1) if n % d == 0)
        chunk.append(best if best >= min(n, target // 4) else n)
    return tuple(chunk)


def finest_block(
    shape: Sequence[int], chunks: Sequence[int], quantum: int, usual: int = USUAL, most: int = MOST
) -> list[int]:
    """Extent of a block: whole chunks of the image, so that each is decoded once, and about `usual` voxels.

    Parameters
    ----------
    shape, chunks : sequence of int
        Along the spatial axes.
    quantum : int
        Longer extents are multiples of it, as blocks are cut into small chunks.
    usual, most : int
        Voxels of a block: as many as this where chunks are small, and at most this where they are large.
    """
    block = [rounded_up(min(c, n), quantum) for c, n in zip(chunks, shape, strict=True)]
    while math.prod(block) > most:
        longest = max(range(len(block)), key=lambda k: block[k])
        block[longest] = rounded_up(block[longest] // 2, quantum)
    while math.prod(block) * 2 <= usual:
        short = [k for k, n in enumerate(shape) if block[k] < n]
        if not short:
            break
        axis = min(short, key=lambda k: block[k])
        block[axis] = rounded_up(min(block[axis] * 2, shape[axis]), quantum)
    return block


def rounded_up(n: int, quantum: int) -> int:
    """Return an extent as a multiple of `quantum`; shorter extents stay as they are."""
    return n if n <= quantum else -(-n // quantum) * quantum
