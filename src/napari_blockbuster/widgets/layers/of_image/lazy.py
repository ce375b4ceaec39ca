"""Lazy arrays for napari: slicing reads nothing. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import ImageSource

__all__ = ["LazyView", "views_of"]


class LazyView:
    """Array that reads only when it is converted to numpy. Its slices are lazy, too.

    napari slices the displayed axes first and the plane second. An array that reads in the first step reads every plane.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    read : callable
        ``read(box) -> numpy.ndarray`` of the box's shape.
    source : ImageSource, or a function that opens it, optional
        Image behind the view. It is opened when it is first needed: not to be shown. Slices of a view have none.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: Any,
        read: Callable[[Box], np.ndarray],
        source: ImageSource | Callable[[], ImageSource] | None = None,
    ) -> None:
        self.dtype = np.dtype(dtype)
        self._source = source
        self._read = read
        self._spans: tuple[range | int, ...] = tuple(range(n) for n in shape)

    @property
    def has_source(self) -> bool:
        """Whether the view shows an image that can be opened."""
        return self._source is not None

    @property
    def source(self) -> ImageSource | None:
        """Image behind the view."""
        if callable(self._source):
            self._source = self._source()
        return self._source

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(span) for span in self._spans if isinstance(span, range))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod([float(n) for n in self.shape]))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> LazyView:
        entries = iter(_whole_index(index, self.ndim))
        spans: list[range | int] = []
        for span in self._spans:
            if isinstance(span, int):
                spans.append(span)
                continue
            entry = next(entries)
            if isinstance(entry, slice) and (entry.step or 1) < 0:
                raise IndexError("lazy views do not support negative steps")
            spans.append(span[entry] if isinstance(entry, slice) else span[int(entry)])
        part = LazyView((), self.dtype, self._read)
        part._spans = tuple(spans)
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if not self.size:
            return np.zeros(self.shape, dtype or self.dtype)
        start = tuple(span[0] if isinstance(span, range) else span for span in self._spans)
        stop = tuple((span[-1] if isinstance(span, range) else span) + 1 for span in self._spans)
        # A step reads the values in between and drops them. Pyramid levels make large steps rare.
        after = tuple(slice(None, None, span.step) if isinstance(span, range) else 0 for span in self._spans)
        return np.asarray(self._read(Box(start, stop))[after], dtype)


def _whole_index(index: Any, ndim: int) -> tuple[Any, ...]:
    """Return an index with one entry for each axis."""
    entries = index if isinstance(index, tuple) else (index,)
    places = [i for i, entry in enumerate(entries) if entry is Ellipsis]
    if places:
        at = places[0]
        entries = entries[:at] + (slice(None),) * (ndim - len(entries) + 1) + entries[at + 1 :]
    return entries + (slice(None),) * (ndim - len(entries))


def views_of(source: ImageSource) -> list[LazyView]:
    """Return lazy views of an image and of the coarser levels in its file, for a layer."""
    from napari_blockbuster.images import open_image

    source = source.shown
    sources = [source]
    described = source.describe()
    path = described.get("path")
    while path:
        try:
            level = int(described.get("level") or 0) + len(sources)
            coarser = open_image(
                path,
                level=level,
                channel=described.get("channel"),
                axes=described.get("stored_axes"),
                scene=described.get("scene"),
                spacing=described.get("spacing"),
            )
        except (OSError, ValueError):
            break
        if coarser.shape == sources[-1].shape or coarser.ndim != source.ndim:
            break
        sources.append(coarser)
    return [LazyView(s.shape, s.dtype, s.read, s) for s in sources]
