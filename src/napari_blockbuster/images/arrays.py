"""Images in memory: numpy arrays, and dask arrays that are computed box by box."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box

from .base import ImageSource, Layout, PixelPart, Pixels, spread_blocks
from .chunks import CachedReader

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["ArraySource", "DaskSource"]


class ArraySource(ImageSource):
    """Anything indexable in this process: a numpy array, a memory map, a zarr array in memory.

    Workers are sent the pixels of one tile at a time.
    """

    def __init__(self, array: Any, layout: Layout, name: str) -> None:
        self._array, self.layout, self.name = array, layout, name
        self.shape = layout.pick(array.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        chunks = getattr(array, "chunks", None)
        self.chunks = self.read_chunks = layout.pick(chunks or array.shape)
        # Reading chunks means decoding them: halos must not do that again.
        self._pixels = CachedReader(array, tuple(chunks)) if chunks else array

    def _read(self, box: Box) -> np.ndarray:
        return np.array(self._pixels[self.layout.index(box)])

    def describe(self) -> dict[str, Any]:
        return self._description("memory")


class DaskSource(ImageSource):
    """A dask array. Workers are sent the part of its graph that one tile needs, and compute it there."""

    def __init__(self, array: da.Array, layout: Layout, name: str) -> None:
        self._array, self.layout, self.name = array, layout, name
        self.shape = layout.pick(array.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        self.chunks = self.read_chunks = layout.pick(tuple(c[0] for c in array.chunks))

    def _read(self, box: Box) -> np.ndarray:
        # Never the client or scheduler that happens to be dask's default: this may run in a viewer, or in a worker.
        pixels: np.ndarray = self._array[self.layout.index(box)].compute(scheduler="synchronous")
        return pixels

    def part(self, box: Box) -> PixelPart:
        self._check(box)
        part = _DaskPart(_culled(self._array[self.layout.index(box)]), box.shape, self.dtype)
        # A graph may hold far more than one tile's pixels (a chunk as large as the image, a flat field), or what cannot
        # leave this process (an open file): then the pixels travel.
        limit = max(4 * box.size * self.dtype.itemsize, 2**16)
        return part if _pickles_within(part, limit) else Pixels(self.read(box))

    def describe(self) -> dict[str, Any]:
        return self._description("dask")

    def _digest_boxes(self) -> list[Box]:
        # Computing is what may be dear here: a handful of small blocks, whatever the graph.
        block = tuple(min(n, c, 64) for n, c in zip(self.shape, self.read_chunks, strict=True))
        return spread_blocks(self.shape, block, 4 * math.prod(block))


def _culled(array: da.Array) -> da.Array:
    """The array with no more of its graph than its own chunks need."""
    from dask.base import optimize

    optimized: tuple[da.Array] = optimize(array)
    return optimized[0]


class _Full(Exception):
    """More was written than there is room for."""


class _Counting(io.RawIOBase):
    """Counts what is written, keeps none of it, and stops at the limit."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._left -= size
        if self._left < 0:
            raise _Full
        return size


def _pickles_within(value: Any, limit: int) -> bool:
    import cloudpickle

    try:
        cloudpickle.dump(value, _Counting(limit), protocol=5)
    except Exception:
        return False
    return True


@dataclass(frozen=True)
class _DaskPart:
    array: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self) -> np.ndarray:
        pixels = self.array.compute(scheduler="synchronous")
        return np.ascontiguousarray(pixels, self.dtype).reshape(self.shape)
