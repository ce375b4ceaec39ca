"""Shapes of the chunks that tiles are stored in."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["browse_chunk"]


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
