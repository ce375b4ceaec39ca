"""Arrays of a stage on disk: zarr v3, one chunk or shard for each tile."""

from __future__ import annotations

import errno
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_blockbuster.machine.disk import StoreError
from napari_blockbuster.machine.system import syncs, tensorstore_path

if TYPE_CHECKING:
    import numpy as np
    import tensorstore as ts


__all__ = ["ChunkBeingEncoded", "create_array", "encode_chunk", "open_array"]

_CODECS: list[dict[str, Any]] = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "zstd", "configuration": {"level": 1, "checksum": True}},
]


def create_array(
    path: Path, shape: tuple[int, ...], chunk: tuple[int, ...], inner: tuple[int, ...] | None = None
) -> None:
    """Create an array of uint32 with one chunk (or one shard of `inner` chunks) for each tile, if it does not exist."""
    import tensorstore as ts

    codecs = _CODECS
    if inner is not None:
        # Inner chunks are encoded in parallel, and a viewer decodes only those in its plane.
        sharding = {
            "chunk_shape": list(inner),
            "codecs": _CODECS,
            "index_codecs": [_CODECS[0], {"name": "crc32c"}],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    metadata = {
        "shape": list(shape),
        "data_type": "uint32",
        "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "codecs": codecs,
    }
    path.mkdir(parents=True, exist_ok=True)
    ts.open(_spec(path) | {"metadata": metadata}, create=True, open=True).result()


def _spec(path: Path) -> dict[str, Any]:
    # Every chunk is stored, also an empty one: "marker there, chunk missing" then always means damage.
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": tensorstore_path(path), "file_io_sync": syncs(path / "zarr.json")},
        "store_data_equal_to_fill_value": True,
    }


@functools.lru_cache(maxsize=64)
def open_array(path: Path, shape: tuple[int, ...], chunk: tuple[int, ...]) -> ts.TensorStore:
    """Return an array of a stage. It is opened once per process.

    `shape` and `chunk` distinguish it from an array of another job that was at the same place before.
    """
    import tensorstore as ts

    try:
        array = ts.open(_spec(path), open=True, assume_cached_metadata=False).result()
    except ValueError as error:
        stage = path.parent if path.name == "labels" else path.parents[2]
        if not (stage / "tiles").is_dir():
            # The folder was removed; a pending write may have created part of it again, without its metadata.
            raise StoreError.of(FileNotFoundError(errno.ENOENT, "No such folder"), stage) from error
        raise _damaged(path, str(error)[:200]) from error
    found = tuple(array.domain.shape), tuple(array.chunk_layout.write_chunk.shape or ()), array.dtype.name
    if found != (shape, chunk, "uint32"):
        raise _damaged(path, "not the array that job.json asks for")
    return array


class ChunkBeingEncoded:
    """A chunk (or shard) that tensorstore encodes in its own threads."""

    def __init__(self, memory: ts.KvStore, key: str, write: ts.WriteFutures) -> None:
        self._memory, self._key, self._write = memory, key, write

    def result(self) -> bytes:
        """Wait for the chunk and return its content. Can be called once."""
        self._write.result()
        content: bytes = self._memory.read(self._key).result().value
        self._memory.write(self._key, None).result()
        return content


def encode_chunk(
    path: Path, shape: tuple[int, ...], chunk: tuple[int, ...], position: tuple[int, ...], values: np.ndarray
) -> ChunkBeingEncoded:
    """Start encoding one chunk (or shard) of an array as it is stored on disk.

    The caller writes the file. If tensorstore wrote it, it would synchronize the folder as well, and take four times the
    processor time.

    Parameters
    ----------
    path, shape, chunk
        See `open_array`.
    position : tuple of int
        Place of the chunk in the grid of chunks.
    values : numpy.ndarray
        The chunk, clipped at the edge of the array. It must not change before the result is there.
    """
    memory = _in_memory(path, shape, chunk)
    slices = tuple(slice(p * n, p * n + extent) for p, n, extent in zip(position, chunk, values.shape, strict=True))
    write = memory[slices].write(values, can_reference_source_data_indefinitely=True)
    assert memory.kvstore is not None
    return ChunkBeingEncoded(memory.kvstore, "/".join(["c", *map(str, position)]), write)


@functools.lru_cache(maxsize=8)
def _in_memory(path: Path, shape: tuple[int, ...], chunk: tuple[int, ...]) -> ts.TensorStore:
    """Return an array in memory with the metadata of an array on disk."""
    import tensorstore as ts

    metadata = open_array(path, shape, chunk).spec(retain_context=False).to_json()["metadata"]
    kvstore = {"driver": "memory"}
    spec = {"driver": "zarr3", "kvstore": kvstore, "metadata": metadata, "store_data_equal_to_fill_value": True}
    return ts.open(spec, create=True, context=ts.Context()).result()


def _damaged(path: Path, why: str) -> StoreError:
    remedy = "restore it from a copy, or segment with overwrite=True (--overwrite)"
    return StoreError("job folder damaged", remedy, f"{path}: {why}")
