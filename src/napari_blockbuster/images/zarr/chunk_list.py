"""List the chunks that a zarr array stores. Those that it does not store hold its fill value, and no pixel is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.images.places import is_remote, zip_file_of

from .stores import kvstore, python_store

__all__ = ["stored_chunks"]


def stored_chunks(location: str, shape: Sequence[int]) -> tuple[np.ndarray, float, tuple[int, ...]] | None:
    """Return the bytes of each chunk (or shard), the fill value, and the shape of a chunk.

    Parameters
    ----------
    location : str
        Path or URL of the array.
    shape : sequence of int

    Returns
    -------
    tuple or None
        Sizes as `napari_blockbuster.images.base.StoredChunks` has them; None if the store cannot be listed (http).
    """
    try:
        names = _names(location)
        array = _open(location)
        chunks = tuple(array.shards or array.chunks)
        fill = 0.0 if array.fill_value is None else float(array.fill_value)
        counts = [-(-n // c) for n, c in zip(shape, chunks, strict=True)]
        sizes = np.zeros(counts, np.int64)
        for place in np.ndindex(*counts):
            sizes[place] = names.get(array.metadata.encode_chunk_key(place), 0)
    except Exception:
        # Any store may lack a list or a key of this kind. Without it, pixels are read.
        return None
    return sizes, fill, chunks


def _open(location: str) -> Any:
    import zarr

    store, inner = python_store(location)
    return zarr.open_array(store, path=inner, mode="r")


def _names(location: str) -> dict[str, int]:
    """Bytes of each file of an array, by its key; -1 if they are unknown."""
    if is_remote(location) or zip_file_of(location) is not None:
        import tensorstore as ts

        keys = ts.KvStore.open(kvstore(location)).result().list().result()
        return {key.decode().lstrip("/"): -1 for key in keys}
    root, found = Path(location), {}
    for folder, _, files in os.walk(root):
        inner = Path(folder).relative_to(root).as_posix()
        for name in files:
            found[name if inner == "." else f"{inner}/{name}"] = os.lstat(os.path.join(folder, name)).st_size
    return found
