"""What it costs to read a tile with its halo: chunks are decoded as a whole, and the cache holds only some of them."""

from __future__ import annotations

import math

import numpy as np

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.images.chunks import cache_bytes
from napari_blockbuster.images.metadata.sizes import say
from napari_blockbuster.job.shell import command
from napari_blockbuster.machine.units import bytes_text, shape_text

__all__ = ["decoded_bytes", "say_if_dear"]

DEAR = 4.0
"""Times as many bytes decoded as read. Halos alone cost up to about 3 where chunks are as large as tiles."""


def decoded_bytes(source: ImageSource, grid: TileGrid) -> tuple[int, int]:
    """Return the bytes of all chunks that a tile in the middle touches, and the bytes of its pixels."""
    middle = [n // 2 for n in grid.grid_shape]
    tile = grid[int(np.ravel_multi_index(middle, grid.grid_shape))]
    touched = 1
    for start, stop, chunk in zip(tile.read.start, tile.read.stop, source.read_chunks, strict=True):
        touched *= (-(-stop // chunk) - start // chunk) * chunk
    size = source.dtype.itemsize * source.n_channels
    return touched * size, math.prod(tile.read.shape) * size


def say_if_dear(source: ImageSource, grid: TileGrid) -> None:
    """Warn if most of what is decoded for a tile is thrown away before the next tile could use it."""
    path = source.describe().get("path")
    if not source.decodes_chunks or path is None:
        return
    decoded, needed = decoded_bytes(source, grid)
    if decoded <= DEAR * needed or decoded <= cache_bytes():
        return
    chunk = shape_text(source.read_chunks)
    say(
        f"{source.name}: a tile decodes {decoded / needed:,.0f} times the pixels that it needs ({bytes_text(decoded)} for "
        f"{bytes_text(needed)}), because its chunks are {chunk} and do not fit into the cache. Converting the image first makes "
        f"the run faster: {command(['convert', path])}"
    )
