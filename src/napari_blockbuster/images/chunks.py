"""A bounded cache of decoded chunks, for stores that have none of their own."""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

__all__ = ["CACHE", "CachedReader", "ChunkCache", "cache_bytes"]


def cache_bytes() -> int:
    """Bytes of decoded chunks that a process may keep.

    ``NAPARI_BLOCKBUSTER_CACHE_BYTES``, else 5 % of its memory, at most 1 GB.
    """
    asked = os.environ.get("NAPARI_BLOCKBUSTER_CACHE_BYTES")
    if asked:
        return int(asked)
    from napari_blockbuster.machine.limits import memory_limit_bytes

    return min(2**30, memory_limit_bytes() // 20)


class ChunkCache:
    """Least recently used chunks go first. Thread-safe.

    Parameters
    ----------
    limit : int, optional
        Bytes to hold at most; default: `cache_bytes`, asked when the first chunk comes.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._chunks: OrderedDict[Any, np.ndarray] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._held

    def get(self, key: Any) -> np.ndarray | None:
        with self._lock:
            if key in self._chunks:
                self._chunks.move_to_end(key)
            return self._chunks.get(key)

    def put(self, key: Any, chunk: np.ndarray) -> None:
        with self._lock:
            if self._limit is None:
                self._limit = cache_bytes()
            if key in self._chunks or chunk.nbytes > self._limit:
                return
            self._chunks[key] = chunk
            self._held += chunk.nbytes
            while self._held > self._limit:
                self._held -= self._chunks.popitem(last=False)[1].nbytes


CACHE = ChunkCache()
_names = itertools.count()


class CachedReader:
    """Reads boxes of a zarr array chunk by chunk through the cache: neighbors' halos decode no chunk again.

    Parameters
    ----------
    array : zarr.Array
    chunks : tuple of int
        What is decoded together.
    """

    def __init__(self, array: Any, chunks: tuple[int, ...], cache: ChunkCache = CACHE) -> None:
        self._array, self._chunks, self._cache = array, chunks, cache
        self._name = next(_names)

    def __getitem__(self, index: tuple[slice | int, ...]) -> np.ndarray:
        spans = [(i, i + 1) if isinstance(i, int) else (i.start, i.stop) for i in index]
        result = np.empty([b - a for a, b in spans], self._array.dtype)
        grids = [range(a // c, -(-b // c)) for (a, b), c in zip(spans, self._chunks, strict=True)]
        for place in itertools.product(*grids):
            origin = [p * c for p, c in zip(place, self._chunks, strict=True)]
            chunk = self._chunk(place, origin)
            ends = [o + n for o, n in zip(origin, chunk.shape, strict=True)]
            inside = [(max(a, o), min(b, e)) for (a, b), o, e in zip(spans, origin, ends, strict=True)]
            target = tuple(slice(a - s[0], b - s[0]) for (a, b), s in zip(inside, spans, strict=True))
            source = tuple(slice(a - o, b - o) for (a, b), o in zip(inside, origin, strict=True))
            result[target] = chunk[source]
        return result[tuple(0 if isinstance(i, int) else slice(None) for i in index)]

    def _chunk(self, place: tuple[int, ...], origin: list[int]) -> np.ndarray:
        key = self._name, place
        chunk = self._cache.get(key)
        if chunk is None:
            region = tuple(
                slice(o, min(o + c, n)) for o, c, n in zip(origin, self._chunks, self._array.shape, strict=True)
            )
            chunk = np.asarray(self._array[region])
            self._cache.put(key, chunk)
        return chunk
