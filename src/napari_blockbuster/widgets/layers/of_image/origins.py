"""Origins of layers: whether a file has the pixels of a layer, so that workers can read the file. No Qt.

The path of a layer is not enough, because its data may have been edited, replaced or computed.

* Lazy views of this plugin, zarr arrays, and dask arrays that only wrap a zarr array read the file.
* All pixels in memory are compared with the file, again for each run. Previews read the memory.
* Other data are segmented as they are, without a file.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_blockbuster.geometry.tiles import Box, TileGrid
from napari_blockbuster.images import ChannelsSource, ImageSource
from napari_blockbuster.images.tiff.source import TiffSource
from napari_blockbuster.images.zarr.source import StoredSource, new_opening

__all__ = ["as_shown", "confirmed", "file_or_memory", "is_held", "same_pixels", "with_layout", "zarr_location"]

BLOCK = 2**23
"""Number of voxels that are compared at once."""

_memory: WeakKeyDictionary[ImageSource, ImageSource] = WeakKeyDictionary()
"""Pixels in memory of files that have the same pixels."""


def file_or_memory(file: ImageSource | None, memory: ImageSource | None) -> ImageSource:
    """Return the file of an image, or its pixels in memory if there is no file with the same pixels."""
    if file is None:
        assert memory is not None
        return memory
    if memory is not None:
        # Models sample images by chunk: use the same chunks for both.
        memory.chunks, memory.read_chunks = file.chunks, file.read_chunks
        _memory[file] = memory
    return file


def with_layout(source: ImageSource, **changes: Any) -> ImageSource:
    """Return an image with another place or voxel size, also of its pixels in memory."""
    made = copy.copy(source)
    made.layout = replace(made.layout, **changes)
    if source in _memory:
        _memory[made] = with_layout(_memory[source], **changes)
    return made


def is_held(source: ImageSource) -> bool:
    """Return whether the layer of an image has its pixels in memory, where they may be edited."""
    return source in _memory


def as_shown(source: ImageSource) -> ImageSource:
    """Return the image to preview: pixels in memory if there are any, otherwise the file in its current state."""
    return _memory[source] if source in _memory else _fresh(source)


def confirmed(source: ImageSource) -> ImageSource:
    """Return the image to run on: the file, or the pixels in memory if they changed. Call it in a thread.

    Parameters
    ----------
    source : ImageSource
        Result of `napari_blockbuster.widgets.layers.of_image.layer_images.image_of`.
    """
    memory = _memory.get(source)
    if memory is None:
        return _fresh(source)
    return source if same_pixels(source, memory) else memory


def _fresh(source: ImageSource) -> ImageSource:
    # Cached chunks may be outdated.
    if isinstance(source, ChannelsSource):
        return source.with_parts([_fresh(part) for part in source.parts])
    if not isinstance(source, StoredSource | TiffSource):
        return source
    source = copy.copy(source)
    source.opening = new_opening()
    return source


def same_pixels(one: ImageSource, other: ImageSource) -> bool:
    """Return whether two images have the same pixels. Reads both."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    has_nan = one.dtype.kind == "f"
    try:
        return all(np.array_equal(one.read(box), other.read(box), equal_nan=has_nan) for box in _blocks(one))
    except OSError:
        # The file cannot be read now.
        return False


def _blocks(source: ImageSource) -> Iterator[Box]:
    """Yield boxes that cover an image and decode each chunk once."""
    block = [min(n, c) for n, c in zip(source.shape, source.read_chunks, strict=True)]
    for axis in reversed(range(source.ndim)):
        block[axis] = min(source.shape[axis], block[axis] * max(1, BLOCK // math.prod(block)))
    return (tile.core for tile in TileGrid(source.shape, block))


# ----------------------------------------------------------------------------------------------------------- zarr, dask
def zarr_location(data: Any) -> Path | None:
    """Return the folder of a zarr array, or of the zarr array that a dask array wraps unchanged; None for others."""
    array = _array_behind(data) if type(data).__module__.startswith("dask.") else data
    store = getattr(array, "store", None)
    if store is None or not hasattr(array, "chunks"):
        return None
    root = getattr(store, "root", None) or _local_path(store)
    return None if root is None else Path(root).absolute() / str(getattr(array, "path", ""))


def _local_path(store: Any) -> str | None:
    """Return the folder of a local zarr store of fsspec."""
    files = getattr(store, "fs", None)
    files = getattr(files, "sync_fs", files)
    protocols = getattr(files, "protocol", ())
    local = "file" in ((protocols,) if isinstance(protocols, str) else tuple(protocols))
    return str(store.path) if local and type(files).__name__ == "LocalFileSystem" else None


def _array_behind(data: Any) -> Any:
    """Return the zarr array that a dask array wraps unchanged; None if its graph does anything else."""
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
