"""Parents without their children, as a label image that is computed box by box."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import ImageSource
from napari_blockbuster.images.base import PixelPart, Pixels

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["RemainderSource", "lazy_array"]


class RemainderSource(ImageSource):
    """A label image of parents, in which the voxels of each parent's own children are background.

    Voxels where a child of one parent lies in another parent keep the label of that other parent.

    Parameters
    ----------
    parents, children : ImageSource
        Of equal shape.
    child_labels, parent_of : numpy.ndarray
        Labels of the children in ascending order, and the label of the parent of each (0: none).
    """

    def __init__(
        self, parents: ImageSource, children: ImageSource, child_labels: np.ndarray, parent_of: np.ndarray
    ) -> None:
        self.parents, self.children = parents, children
        self._labels, self._parent_of = child_labels, parent_of
        self.layout, self.name = parents.layout, f"{parents.name} without {children.name}"
        self.shape, self.chunks, self.read_chunks = parents.shape, parents.chunks, parents.read_chunks
        self.dtype = np.dtype(np.uint8) if parents.dtype == bool else parents.dtype

    @property
    def shippable(self) -> bool:
        return self.parents.shippable and self.children.shippable

    def part(self, box: Box) -> PixelPart:
        return Pixels(self.read(box))

    def _read(self, box: Box) -> np.ndarray:
        children = self.children.prefetch(box)
        labels = self.parents.read(box).astype(self.dtype, copy=False)
        found = children.result()
        if len(self._labels):
            # Of one type: numpy compares int64 with uint64 as floats, which confuses labels above 2^53.
            found = found.astype(self._labels.dtype, copy=False)
            place = np.minimum(np.searchsorted(self._labels, found), len(self._labels) - 1)
            own = (found != 0) & (self._parent_of[place] == labels.astype(self._parent_of.dtype, copy=False))
            labels[own] = 0
        return labels

    def aliases(self, path: Any) -> bool:
        return self.parents.aliases(path) or self.children.aliases(path)

    def describe(self) -> dict[str, Any]:
        return self._description("memory")


class _Sliced:
    """An image that is indexed like an array, for dask."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self.shape, self.dtype, self.ndim = source.shape, source.dtype, source.ndim

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        spans = [s.indices(n) for s, n in zip(index, self.shape, strict=True)]
        pixels: np.ndarray = self._source.read(Box(tuple(s[0] for s in spans), tuple(s[1] for s in spans)))
        return pixels


def lazy_array(source: ImageSource, chunks: tuple[int, ...]) -> da.Array:
    """Return an image as a dask array whose chunks are read when they are needed."""
    import dask.array as da

    name = f"labels-{os.urandom(8).hex()}"
    array: da.Array = da.from_array(
        _Sliced(source),
        chunks=chunks,
        name=name,
        lock=False,
        asarray=False,
        meta=np.zeros((0,) * source.ndim, source.dtype),
    )
    return array
