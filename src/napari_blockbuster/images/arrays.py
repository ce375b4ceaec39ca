"""Images in memory: numpy arrays, and dask arrays that are computed box by box."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tiling import Box
from .base import ImageSource, Layout, PixelPart, spread_blocks

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
        chunks = getattr(array, "chunks", None) or array.shape
        self.chunks = self.read_chunks = layout.pick(chunks)

    def _read(self, box: Box) -> np.ndarray:
        return np.array(self._array[self.layout.index(box)])

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
        return _DaskPart(_culled(self._array[self.layout.index(box)]), box.shape, self.dtype)

    def describe(self) -> dict[str, Any]:
        return self._description("dask")

    def _digest_boxes(self) -> list[Box]:
        # Computing is what may be dear here: a handful of small blocks, whatever the graph.
        block = tuple(min(n, c, 64) for n, c in zip(self.shape, self.read_chunks, strict=True))
        return spread_blocks(self.shape, block, 4 * math.prod(block))


def _culled(array: da.Array) -> da.Array:
    """The array with no more of its graph than its own chunks need."""
    import dask

    (optimized,) = dask.optimize(array)
    return optimized


@dataclass(frozen=True)
class _DaskPart:
    array: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self) -> np.ndarray:
        pixels = self.array.compute(scheduler="synchronous")
        return np.ascontiguousarray(pixels, self.dtype).reshape(self.shape)
