"""Arrays of a stage on disk: zarr v3, one chunk or shard for each tile."""

from __future__ import annotations

import errno
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_blockbuster.machine.disk import StoreError
from napari_blockbuster.machine.system import syncs, tensorstore_path

if TYPE_CHECKING:
    import tensorstore as ts


__all__ = ["create_array", "open_array"]

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


def _damaged(path: Path, why: str) -> StoreError:
    remedy = "restore it from a copy, or segment with overwrite=True (--overwrite)"
    return StoreError("job folder damaged", remedy, f"{path}: {why}")
