"""Proof that a layer shows what a file holds, so that the file may be read in its place. No Qt.

A path proves nothing: the data of a layer may be edited, replaced or computed after its file was opened.

* A view of this plugin's own, a zarr array and a dask array that is nothing but a zarr array read the file themselves.
* Pixels in memory are compared with the file, all of them, and again at each run. Previews read the memory.
* Anything else is segmented as it is, without its file.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_blockbuster.geometry.tiles import Box, TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.images.stored import StoredSource, new_opening
from napari_blockbuster.images.tiff import TiffSource

__all__ = ["as_shown", "confirmed", "hold", "is_held", "same_pixels", "zarr_location"]

BLOCK = 2**23
"""Voxels that are compared at once."""

_memory: WeakKeyDictionary[ImageSource, ImageSource] = WeakKeyDictionary()
"""For a file that was found equal to pixels in memory: those pixels."""


def hold(file: ImageSource, memory: ImageSource) -> None:
    """Note that a layer shows pixels in memory that were equal to a file's."""
    # Models measure the same blocks of both.
    memory.chunks, memory.read_chunks = file.chunks, file.read_chunks
    _memory[file] = memory


def is_held(source: ImageSource) -> bool:
    """Whether an image's layer holds its pixels in memory, where they may be edited."""
    return source in _memory


def as_shown(source: ImageSource) -> ImageSource:
    """The image to preview: pixels in memory where there are some, else the file as it is now."""
    return _memory[source] if source in _memory else _fresh(source)


def confirmed(source: ImageSource) -> ImageSource:
    """The image to run on: the file, or the pixels in memory if they were changed since. For a thread.

    Parameters
    ----------
    source : ImageSource
        From `napari_blockbuster.widgets.layers.layer_images.image_of`.
    """
    memory = _memory.get(source)
    if memory is None:
        return _fresh(source)
    return source if same_pixels(source, memory) else memory


def _fresh(source: ImageSource) -> ImageSource:
    if not isinstance(source, StoredSource | TiffSource):
        return source
    # Chunks that were decoded earlier may have been written since.
    source = copy.copy(source)
    source.opening = new_opening()
    return source


def same_pixels(one: ImageSource, other: ImageSource) -> bool:
    """Whether two images agree in every voxel."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    has_nan = one.dtype.kind == "f"
    try:
        return all(np.array_equal(one.read(box), other.read(box), equal_nan=has_nan) for box in _blocks(one))
    except OSError:
        # A file that cannot be read now proves nothing.
        return False


def _blocks(source: ImageSource) -> Iterator[Box]:
    """Boxes that cover an image and decode each of its chunks once."""
    block = [min(n, c) for n, c in zip(source.shape, source.read_chunks, strict=True)]
    for axis in reversed(range(source.ndim)):
        block[axis] = min(source.shape[axis], block[axis] * max(1, BLOCK // math.prod(block)))
    return (tile.core for tile in TileGrid(source.shape, block))


# ----------------------------------------------------------------------------------------------------------- zarr, dask
def zarr_location(data: Any) -> Path | None:
    """The folder of the zarr array that an array is, or that a dask array reads without changing it; None for others."""
    array = _array_behind(data) if type(data).__module__.startswith("dask.") else data
    store = getattr(array, "store", None)
    if store is None or not hasattr(array, "chunks"):
        return None
    root = getattr(store, "root", None) or _local_path(store)
    return None if root is None else Path(root).absolute() / str(getattr(array, "path", ""))


def _local_path(store: Any) -> str | None:
    """The folder of a zarr store that goes through fsspec, if it is a local one."""
    files = getattr(store, "fs", None)
    files = getattr(files, "sync_fs", files)
    protocols = getattr(files, "protocol", ())
    local = "file" in ((protocols,) if isinstance(protocols, str) else tuple(protocols))
    return str(store.path) if local and type(files).__name__ == "LocalFileSystem" else None


def _array_behind(data: Any) -> Any:
    """The zarr array that a dask array is chunk by chunk; None if its graph does anything else, or is not understood."""
    from dask.array import core

    getters = {getattr(core, name, None) for name in ("getter", "getter_nofancy", "getter_inline")} - {None}
    try:
        layers = list(data.dask.layers.values())
        (original,) = (layer for layer in layers if not hasattr(layer, "io_deps"))
        (reading,) = (layer for layer in layers if hasattr(layer, "io_deps"))
        ((name, array),) = original.mapping.items()
        ((key, slices),) = reading.io_deps.items()
        indices = [(getattr(ref, "key", ref), axes) for ref, axes in reading.indices]
        plain = (
            reading.task.func in getters
            and indices == [(name, None), (key, reading.output_indices)]
            and not reading.new_axes
            and type(slices).__name__ == "ArraySliceDep"
            and tuple(slices.chunks) == tuple(data.chunks)
            and type(array).__module__.startswith("zarr.")
            and tuple(array.shape) == tuple(data.shape)
            and np.dtype(array.dtype) == np.dtype(data.dtype)
        )
    except (AttributeError, ValueError, TypeError):
        return None
    return array if plain else None
