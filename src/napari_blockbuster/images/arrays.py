"""Images in memory: numpy, zarr and xarray arrays, and dask arrays that are computed box by box."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images.metadata.axes import Request, axes_of_names, plain_layout
from napari_blockbuster.images.zarr.source import StoredSource

from .base import ImageSource, Layout, PixelPart, Pixels
from .blocks import spread_blocks
from .chunks import CachedReader
from .places import few

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["ArraySource", "DaskSource", "open_in_memory"]


# ------------------------------------------------------------------------------------------------------------- opening
def open_in_memory(image: Any, request: Request) -> ImageSource:
    """Open an array of any library.

    Raises
    ------
    ValueError
        If it cannot be an image; the message says why.
    """
    if request.level:
        raise ValueError(f"level is {request.level}, but an array has no levels. Pass the array of that level")
    if request.scene not in (None, 0, "0"):
        raise ValueError(f"scene is {request.scene!r}, but an array is one image. Leave it out")
    library = type(image).__module__.partition(".")[0]
    if library == "xarray":
        return _open_xarray(image, request)
    if library == "dask":
        return DaskSource(image, plain_layout(image, request, "this dask array"), "dask array")
    if getattr(image, "store", None) is not None:
        if not hasattr(image, "chunks"):
            raise ValueError(f"this is a zarr group ({image.store}). Pass its path, or one of its arrays")
        return _open_zarr_array(image, request)
    array = image if isinstance(image, np.ndarray) else _as_array(image)
    return ArraySource(array, plain_layout(array, request, "this array"), "array")


def _as_array(image: Any) -> np.ndarray:
    try:
        array = np.asarray(image)
    except ValueError:  # Lists of unequal length.
        array = np.empty(0, object)
    if array.dtype == object or array.ndim == 0:
        raise ValueError(f"{type(image).__name__} is not an image. Pass a path, or a zarr, dask or numpy array")
    return array


def _open_zarr_array(array: Any, request: Request) -> ImageSource:
    names = getattr(getattr(array, "metadata", None), "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    layout = plain_layout(array, request, "this zarr array", axes=axes_of_names(names))
    root = getattr(array.store, "root", None)
    if root is not None:
        # On disk: workers read it themselves.
        return StoredSource(str(Path(root).absolute() / array.path).rstrip("/"), "", layout)
    return ArraySource(array, layout, "zarr array")


# -------------------------------------------------------------------------------------------------------------- xarray
def _open_xarray(image: Any, request: Request) -> ImageSource:
    if type(image).__name__ not in ("DataArray", "Variable"):
        names = few(str(name) for name in getattr(image, "data_vars", ()))
        inside = f". Inside it are {names}" if names else ""
        raise ValueError(f"this is an xarray {type(image).__name__}{inside}: pass one DataArray")
    axes = axes_of_names([str(name) for name in image.dims])
    if axes is None and request.axes is None:
        raise ValueError(
            f"this xarray has the dimensions {', '.join(map(str, image.dims))} of extent {image.shape}. "
            f"Say which they are, as axes={'tczyx'[-len(image.shape) :]!r} (t time, c channel, z, y, x)"
        )
    stored = request.axes or axes or ""
    coords = getattr(image, "coords", {})
    by_axis = {a: coords[d] for a, d in zip(stored, image.dims, strict=False) if d in coords}
    layout = plain_layout(
        image,
        request,
        "this xarray",
        axes=axes,
        channels=[str(name) for name in by_axis["c"].values] if "c" in by_axis and by_axis["c"].ndim == 1 else (),
        sizes={a: _step(coord) for a, coord in by_axis.items()},
        units={a: coord.attrs.get("units") for a, coord in by_axis.items()},
    )
    name = str(getattr(image, "name", None) or "xarray")
    variable = getattr(image, "variable", image)
    if image.chunks is not None:
        return DaskSource(image.data, layout, name)
    return ArraySource(_LazyVariable(variable), layout, name)


def _step(coordinate: Any) -> float | None:
    """Distance between the evenly spaced values of a coordinate; None for anything else, as plain numbering."""
    values = np.asarray(coordinate.values)
    if values.ndim != 1 or len(values) < 2 or values.dtype.kind not in "iuf":
        return None
    steps = np.diff(values.astype(float))
    even = np.allclose(steps, steps[0], rtol=1e-3, atol=0)
    numbering = values.dtype.kind in "iu" and steps[0] == 1
    return float(np.mean(steps)) if even and not numbering else None


class _LazyVariable:
    """An xarray variable, which may still be in its file: an index reads no more than it names."""

    def __init__(self, variable: Any) -> None:
        self._variable, self.shape, self.dtype = variable, tuple(variable.shape), variable.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self._variable[index].values)


# ------------------------------------------------------------------------------------------------------------- sources


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

    @property
    def decodes_chunks(self) -> bool:
        return self._pixels is not self._array

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
