"""Images in zarr stores: read with tensorstore, whose cache keeps decoded chunks; with zarr-python where it cannot."""

from __future__ import annotations

import functools
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images.base import ImageReadError, ImageSource, Layout, StoredChunks
from napari_blockbuster.images.chunks import CachedReader, cache_bytes
from napari_blockbuster.images.places import is_remote, join, name_of, zip_file_of

from .chunk_list import stored_chunks
from .stores import kvstore, python_store, says_forbidden

if TYPE_CHECKING:
    import tensorstore as ts

__all__ = ["StoredSource", "decoded_chunks", "new_opening", "open_array"]


class StoredSource(ImageSource):
    """A zarr array on disk or at a URL: a handle of a few hundred bytes that each worker opens for itself.

    Parameters
    ----------
    root : str
        Path or URL of the image: of the OME-Zarr group, or of the array itself.
    inner : str
        Path of the array in the group; "" if `root` is the array.
    layout : Layout
    level : int
    opening : str, optional
        See `new_opening`.
    """

    def __init__(self, root: str, inner: str, layout: Layout, level: int = 0, opening: str | None = None) -> None:
        self.root, self.inner, self.layout, self.level = root, inner, layout, level
        self.opening = opening or new_opening()
        self.name = name_of(root)
        array = open_array(self.location, self.opening)
        self.shape = layout.pick(array.shape)
        self.dtype = array.dtype
        self.chunks, self.read_chunks = layout.pick(array.chunks), layout.pick(array.read_chunks)

    @property
    def location(self) -> str:
        """Path or URL of the array."""
        return join(self.root, self.inner)

    def _read(self, box: Box) -> np.ndarray:
        pixels: np.ndarray = open_array(self.location, self.opening).read(self.layout.index(box)).result()
        return pixels

    def prefetch(self, box: Box) -> _Reading:
        self._check(box)
        return _Reading(self, box, open_array(self.location, self.opening).read(self.layout.index(box)))

    def stored_chunks(self) -> StoredChunks | None:
        found = stored_chunks(self.location, open_array(self.location, self.opening).shape)
        if found is None:
            return None
        sizes, fill_value, chunks = found
        index = self.layout.index(Box((0,) * self.ndim, self.shape))
        picked = tuple(i // c if isinstance(i, int) else slice(None) for i, c in zip(index, chunks, strict=True))
        return StoredChunks(sizes[picked], fill_value)

    def describe(self) -> dict[str, Any]:
        return self._description("zarr", path=self.root, inner=self.inner, level=self.level)

    @property
    def shippable(self) -> bool:
        return True

    @property
    def local_path(self) -> Path | None:
        return None if is_remote(self.root) else Path(self.root)

    def aliases(self, path: Path) -> bool:
        """True for the image, its levels, and every folder that holds it; not for ``<image>/labels/<name>``."""
        if self.local_path is None:
            return False
        root, target = self.local_path.resolve(), path.resolve()
        if root == target or root.is_relative_to(target):
            return True
        if not target.is_relative_to(root):
            zipped = zip_file_of(self.root)
            return zipped is not None and target == Path(zipped[0]).resolve()
        parts = target.relative_to(root).parts
        return not (self.inner and len(parts) >= 2 and parts[0] == "labels" and not self.inner.startswith("labels/"))


class _Reading:
    """A read under way."""

    def __init__(self, source: StoredSource, box: Box, future: Any) -> None:
        self._source, self._box, self._future = source, box, future

    def result(self) -> np.ndarray:
        try:
            pixels = self._future.result()
        except Exception as error:
            first = (str(error).splitlines() or [""])[0][:300]
            raise ImageReadError(f"{self._source.name}: the pixels at {self._box} cannot be read ({first})") from error
        return np.ascontiguousarray(pixels, self._source.dtype).reshape(self._box.shape)


# ------------------------------------------------------------------------------------------------------------ opening
class _Array:
    """An opened array, whichever library reads it."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunks: tuple[int, ...],
        read_chunks: tuple[int, ...],
        read: Any,
    ) -> None:
        self.shape, self.chunks, self.read_chunks, self.read = shape, chunks, read_chunks, read
        self.dtype = np.dtype(dtype).newbyteorder("=")


class _Now:
    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels

    def result(self) -> np.ndarray:
        return self._pixels


@functools.lru_cache(maxsize=1)
def decoded_chunks() -> ts.Context:
    """The context of tensorstore whose bounded cache holds the decoded chunks of all images."""
    import tensorstore as ts

    return ts.Context({"cache_pool": {"total_bytes_limit": cache_bytes()}})


_opening = threading.Lock()


@functools.lru_cache(maxsize=16)
def _open(location: str, opening: str) -> _Array:
    errors = []
    for driver in ("zarr3", "zarr"):
        try:
            return _open_tensorstore(location, driver)
        except Exception as error:
            errors.append(error)
    try:
        array = _open_zarr_python(location)
    except Exception as error:
        # The driver of the right version has the reason; the other one only misses its file.
        telling = next((e for e in errors if "does not exist" not in str(e)), errors[0] if len(errors) else error)
        reason = str(telling).splitlines()[0].partition(" [tensorstore_spec")[0].partition(" [source locations")[0]
        raise ImageReadError(f"{location} cannot be opened as a zarr array ({reason[:300]})") from error
    return array


def new_opening() -> str:
    """A name for one opening of an image.

    It travels with the image: a worker that read the same path before, for an earlier run, looks at the disk again.
    Somebody may have written other pixels there since.
    """
    return os.urandom(8).hex()


def open_array(location: str, opening: str) -> _Array:
    """Open a zarr array by path or URL, once per process and opening.

    Raises
    ------
    ImageReadError
        If neither library can open it.
    """
    with _opening:
        return _open(location, opening)


def _open_tensorstore(location: str, driver: str) -> _Array:
    import tensorstore as ts

    # The image does not change during a run: what was read since it was opened needs no second look at the disk.
    spec = {
        "driver": driver,
        "kvstore": kvstore(location),
        "recheck_cached_data": "open",
        "recheck_cached_metadata": "open",
    }
    store = ts.open(spec, open=True, read=True, context=decoded_chunks()).result()
    layout = store.chunk_layout
    return _Array(
        tuple(store.shape),
        store.dtype.numpy_dtype,
        tuple(n or s for n, s in zip(layout.write_chunk.shape or store.shape, store.shape, strict=True)),
        tuple(n or s for n, s in zip(layout.read_chunk.shape or store.shape, store.shape, strict=True)),
        _Web(store, location).read if location.startswith("http") else lambda index: store[index].read(),
    )


def _open_zarr_python(location: str) -> _Array:
    import zarr

    store, inner = python_store(location)
    array = zarr.open_array(store, path=inner, mode="r")
    shards = getattr(array, "shards", None)
    reader = CachedReader(array, array.chunks)
    return _Array(
        array.shape, array.dtype, tuple(shards or array.chunks), tuple(array.chunks), lambda index: _Now(reader[index])
    )


class _Web:
    """Reads over http: through tensorstore, or zarr-python where a server answers 403 for chunks that were never written."""

    def __init__(self, store: ts.TensorStore, location: str) -> None:
        self._store, self._location = store, location
        self._lock = threading.Lock()
        self._other: _Array | None = None

    def read(self, index: Any) -> Any:
        if self._other is not None:
            return self._other.read(index)
        return _WebReading(self, index, self._store[index].read())

    def other(self) -> _Array:
        with self._lock:
            if self._other is None:
                self._other = _open_zarr_python(self._location)
            return self._other


@dataclass(frozen=True)
class _WebReading:
    web: _Web
    index: Any
    future: Any

    def result(self) -> np.ndarray:
        try:
            pixels: np.ndarray = self.future.result()
        except Exception as error:
            if not says_forbidden(error):
                raise
            try:
                other = self.web.other()
            except Exception:
                # Not even the metadata can be read any more: the address is closed.
                raise error from None
            pixels = other.read(self.index).result()
        return pixels
