"""Arrays that napari slices and that read only what is asked for. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..images import ImageSource
from ..tiling import Box

__all__ = ["LazyView", "views_of"]


class LazyView:
    """An array of which each box is read when it is asked for.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    read : callable
        ``read(box) -> numpy.ndarray`` of the box's shape.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, read: Callable[[Box], np.ndarray]) -> None:
        self.shape, self.dtype, self.ndim = tuple(shape), np.dtype(dtype), len(shape)
        self._read = read

    @property
    def size(self) -> int:
        return int(np.prod([float(n) for n in self.shape]))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        spans, after = [], []
        for entry, n in zip(_whole_index(index, self.ndim), self.shape, strict=True):
            if isinstance(entry, slice):
                start, stop, step = entry.indices(n)
                if step < 0:
                    raise IndexError("a lazy view is not read backwards")
                spans.append((start, max(stop, start)))
                after.append(slice(None, None, step))
            else:
                place = range(n)[int(entry)]
                spans.append((place, place + 1))
                after.append(0)
        box = Box(tuple(a for a, _ in spans), tuple(b for _, b in spans))
        pixels = self._read(box) if box.size else np.zeros(box.shape, self.dtype)
        return pixels[tuple(after)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype)


def _whole_index(index: Any, ndim: int) -> tuple[Any, ...]:
    """An index with one entry for each axis."""
    entries = index if isinstance(index, tuple) else (index,)
    places = [i for i, entry in enumerate(entries) if entry is Ellipsis]
    if places:
        at = places[0]
        entries = entries[:at] + (slice(None),) * (ndim - len(entries) + 1) + entries[at + 1 :]
    return entries + (slice(None),) * (ndim - len(entries))


def views_of(source: ImageSource) -> list[LazyView]:
    """An image and its coarser levels (where its file has them) for a layer; nothing is read yet."""
    from ..images import open_image

    sources = [source]
    described = source.describe()
    path = described.get("path")
    while path:
        try:
            coarser = open_image(
                path, level=int(described.get("level") or 0) + len(sources), channel=described.get("channel")
            )
        except (OSError, ValueError):
            break
        if coarser.shape == sources[-1].shape or coarser.ndim != source.ndim:
            break
        sources.append(coarser)
    return [LazyView(s.shape, s.dtype, s.read) for s in sources]
