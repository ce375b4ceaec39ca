"""Find the tiles of an image that hold nothing: all pixels of their read box are the same, or none is above a threshold."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from napari_blockbuster.geometry.roi.coverage import outer, over_ranges
from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images.base import ImageSource, StoredChunks
from napari_blockbuster.machine.limits import cpu_count

__all__ = ["empty_tiles"]

PACKED, SMALL = 0.02, 1024
"""Chunks of a single value are packed to less than this share of their pixels or this many bytes, or are not packed at all.
Larger ones are not read: they hold something."""


def empty_tiles(
    source: ImageSource,
    grid: TileGrid,
    tiles: Iterable[int],
    below: float | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    canceled: threading.Event | None = None,
) -> list[int]:
    """Return the tiles that are proven to hold nothing in their read box.

    Chunks that the store does not have hold its fill value, and are not read. Of the other tiles, the pixels are read,
    unless the size of their chunks shows that they are not of one value.

    Parameters
    ----------
    source : ImageSource
    grid : TileGrid
    tiles : iterable of int
        The tiles to look at.
    below : float, optional
        A tile without a pixel above this value holds nothing. Default: a tile whose pixels all have the same value. Pixels
        that are no number (NaN) count as something.
    progress : callable, optional
        ``progress(done, total)`` in tiles that are read.
    canceled : threading.Event, optional
        Ends the search when it is set. The result is then incomplete.
    """
    wanted = np.fromiter(tiles, np.int64)
    blank, varied = _from_chunks(source, grid, below)
    found, left = wanted[blank[wanted]], wanted[~(blank | varied)[wanted]]
    empty = []
    with ThreadPoolExecutor(min(cpu_count(), 8)) as pool:
        for done, (index, is_empty) in enumerate(_looked(pool, source, grid, left, below), 1):
            if is_empty:
                empty.append(index)
            if progress is not None:
                progress(done, len(left))
            if canceled is not None and canceled.is_set():
                break
    return sorted([*found.tolist(), *empty])


def _looked(
    pool: ThreadPoolExecutor, source: ImageSource, grid: TileGrid, tiles: np.ndarray, below: float | None
) -> Iterable[tuple[int, bool]]:
    """Read tiles, a few at a time: a window, because the results of an executor are never too late."""
    window = 16

    def look(index: int) -> tuple[int, bool]:
        return index, _is_empty(source.read(grid[index].read).reshape(-1, source.n_channels), below)

    for first in range(0, len(tiles), window):
        yield from pool.map(look, tiles[first : first + window].tolist())


def _is_empty(pixels: np.ndarray, below: float | None) -> bool:
    high = pixels.max(axis=0)
    # Comparisons with NaN are False.
    return bool((high <= below).all()) if below is not None else bool((pixels.min(axis=0) == high).all())


def _from_chunks(source: ImageSource, grid: TileGrid, below: float | None) -> tuple[np.ndarray, np.ndarray]:
    """For each tile, whether all of its chunks are blank, and whether a chunk inside its read box has several values."""
    nothing = np.zeros(len(grid), bool)
    stored = source.stored_chunks()
    if stored is None:
        return nothing, nothing
    touched, contained = [], []
    for axis, tiling in enumerate(grid.axes):
        start, stop = np.array([tiling.read(p) for p in range(len(tiling))], np.int64).T
        size, extent = source.chunks[axis], grid.shape[axis]
        touched.append((start // size, (stop - 1) // size))
        contained.append((-(-start // size), np.where(stop == extent, (stop - 1) // size, stop // size - 1)))
    blank = over_ranges(np.logical_and, stored.sizes == 0, touched).reshape(-1)
    if below is not None:
        return (blank if stored.fill_value <= below else nothing), nothing
    if _is_unpacked(stored, source):
        return blank, nothing
    # What a chunk holds outside a tile says nothing about the tile.
    large = stored.sizes > max(PACKED * np.prod(source.chunks) * source.dtype.itemsize, SMALL)
    return blank, _any_within(large, contained).reshape(-1)


def _any_within(values: np.ndarray, ranges: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Whether any value of a block is True, for blocks that may be empty along an axis (the last index before the first)."""
    some = outer([first <= last for first, last in ranges])
    not_empty = [(np.minimum(first, last).clip(0), last.clip(0)) for first, last in ranges]
    found: np.ndarray = some & over_ranges(np.logical_or, values, not_empty)
    return found


def _is_unpacked(stored: StoredChunks, source: ImageSource) -> bool:
    """Whether chunks are stored as they are, so that their size says nothing."""
    full = np.prod(source.chunks) * source.dtype.itemsize
    known = stored.sizes[stored.sizes > 0]
    return bool(len(known)) and bool((known >= full).all())
