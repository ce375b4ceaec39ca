"""The stage: every tile's labels on disk before anything is merged, and `stage_tile`, the one function that runs a
model.

Layout of a stage folder (zarr v3, one chunk or shard per tile, so that no two writers share a file)::

    labels/                 uint32, the image's shape: ids 1..n of each tile's core
    bands/<axis>/<side>/    uint32: what a tile says on both sides of a face of its core
    objects/<tile>.npy      size of each object (`napari_blockbuster.stage.labels.OBJECT`), n entries
    seams/<tile>.npy        evidence, written by `napari_blockbuster.stage.seams`
    tiles/<tile>.json       the marker, written last and atomically: with it, the tile is staged
    failed/<tile>.json      why a tile has no labels
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box, Tile, TileGrid, browse_chunk
from napari_blockbuster.machine.disk import StoreError, finish_writes, writing_to
from napari_blockbuster.machine.files import discard, npy_bytes, read_table, with_checksum, write_atomically
from napari_blockbuster.machine.system import syncs, tensorstore_path

from .labels import OBJECT, Compacted, compact
from .records import TileFailure, TileRecord, read_record

if TYPE_CHECKING:
    import tensorstore as ts

__all__ = [
    "StageStore",
    "StagingTile",
    "TileFailure",
    "TileRecord",
    "create_array",
    "npy_bytes",
    "open_array",
    "read_table",
    "stage_tile",
    "write_atomically",
]

Bands = dict[tuple[int, str], np.ndarray]
"""What a tile says beside each of its faces, keyed by (axis, side)."""


@dataclass(frozen=True)
class StageStore:
    """The stage folder of one job. A small picklable handle; arrays are opened once per process."""

    folder: Path
    grid: TileGrid

    # ---------------------------------------------------------------- folders
    @classmethod
    def create(cls, folder: Path, grid: TileGrid) -> StageStore:
        """Lay out an empty stage (a no-op for what exists already)."""
        store = cls(folder, grid)
        for name in ("tiles", "failed", "objects", "seams"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        create_array(folder / "labels", grid.shape, grid.tile_shape, browse_chunk(grid.tile_shape))
        for axis, side in store.band_keys:
            create_array(store._band_path(axis, side), store._band_shape(axis), store._band_chunk(axis))
        return store

    @property
    def band_keys(self) -> list[tuple[int, str]]:
        """The (axis, side) of every band array: none along an axis with a single tile or along time."""
        axes = range(self.grid.separate_axes, self.grid.ndim)
        return [(a, side) for a in axes if self.grid.grid_shape[a] > 1 for side in ("low", "high")]

    def delete(self) -> None:
        """Remove the stage from disk."""
        discard(self.folder)

    # ----------------------------------------------------------------- arrays
    @property
    def labels(self) -> ts.TensorStore:
        """The labels of all staged tiles, with ids local to each tile."""
        return open_array(self.folder / "labels", self.grid.shape, self.grid.tile_shape)

    def read_labels(self, tile: Tile) -> ts.Future[np.ndarray]:
        """Start reading a staged tile's labels: uint32, shape of the core."""
        return self.labels[tile.core.slices].read()

    def read_band(self, tile: Tile, axis: int, side: str) -> np.ndarray:
        """What a staged tile says beside a face: uint32, shape of ``grid.band(tile, axis, side)``."""
        band = self.grid.band(tile, axis, side)
        if band is None:
            raise ValueError(f"{tile} has no neighbour at its {side!r} face along axis {axis}")
        array: np.ndarray = self._band(axis, side)[self._slot(tile, axis, band)].read().result()
        return array

    def write(self, tile: Tile, labels: np.ndarray, bands: Bands) -> list[Any]:
        """Start writing a tile's labels and bands; returns the futures of the writes."""
        # The arrays belong to this call alone, so that tensorstore may encode them in its own threads without a copy.
        futures = [self.labels[tile.core.slices].write(labels, can_reference_source_data_indefinitely=True)]
        for (axis, side), values in bands.items():
            band = self.grid.band(tile, axis, side)
            assert band is not None
            target = self._band(axis, side)[self._slot(tile, axis, band)]
            futures.append(target.write(values, can_reference_source_data_indefinitely=True))
        return futures

    def _slot(self, tile: Tile, axis: int, band: Box) -> tuple[slice, ...]:
        start = tile.position[axis] * self.grid.band_thickness(axis)
        slices = list(band.slices)
        slices[axis] = slice(start, start + band.shape[axis])
        return tuple(slices)

    def _band(self, axis: int, side: str) -> ts.TensorStore:
        return open_array(self._band_path(axis, side), self._band_shape(axis), self._band_chunk(axis))

    def _band_path(self, axis: int, side: str) -> Path:
        return self.folder / "bands" / str(axis) / side

    def _band_chunk(self, axis: int) -> tuple[int, ...]:
        thickness = self.grid.band_thickness(axis)
        return tuple(thickness if a == axis else t for a, t in enumerate(self.grid.tile_shape))

    def _band_shape(self, axis: int) -> tuple[int, ...]:
        extent = self.grid.band_thickness(axis) * self.grid.grid_shape[axis]
        return tuple(extent if a == axis else n for a, n in enumerate(self.grid.shape))

    # ---------------------------------------------------------------- records
    def path(self, kind: str, index: int, suffix: str = "json") -> Path:
        """Path of a tile's file of one kind: tiles, failed, objects, seams."""
        return self.folder / kind / f"{index}.{suffix}"

    def hang_note(self, index: int) -> Path:
        """Where a process that is ended by a time limit says what it was doing; no record of its own."""
        return self.folder / "failed" / f".{index}.hang"

    def claim_file(self, index: int) -> Path:
        """What a process locks while it works on a tile (see `napari_blockbuster.stage.claims`); no record of its own."""
        return self.folder / "failed" / f".{index}.claim"

    def forget_hangs(self) -> None:
        """Drop what an earlier run left of hanging tiles: they are tried anew."""
        for note in (self.folder / "failed").glob(".*.hang"):
            note.unlink(missing_ok=True)

    def is_staged(self, index: int) -> bool:
        """Whether a tile's marker is on disk."""
        return self.path("tiles", index).exists()

    def indices(self, kind: str) -> set[int]:
        """Tiles that have a finished file of one kind."""
        with os.scandir(self.folder / kind) as entries:
            stems = (entry.name.partition(".")[0] for entry in entries if not entry.name.startswith("."))
            return {int(stem) for stem in stems if stem.isdigit()}

    def record(self, index: int) -> TileRecord:
        """The marker of a staged tile.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        return read_record(TileRecord, self.path("tiles", index))

    def failure(self, index: int) -> TileFailure:
        """Why a tile failed."""
        try:
            return read_record(TileFailure, self.path("failed", index))
        except ValueError as error:
            # It says nothing any more, and nothing depends on it: the tile is segmented again anyway.
            return TileFailure(index, "unknown", str(error))

    def objects(self, index: int) -> np.ndarray:
        """Sizes of a tile's objects: one `napari_blockbuster.stage.labels.OBJECT` for each id from 1."""
        return read_table(self.path("objects", index, "npy"), OBJECT)

    def fail(self, failure: TileFailure) -> None:
        """Record a failure beside the stage."""
        with writing_to(self.folder):
            write_atomically(self.path("failed", failure.index), with_checksum(asdict(failure)))

    def unstage(self, indices: Iterable[int]) -> None:
        """Forget tiles, so that they are segmented again.

        Evidence that names them goes first: left behind by a crash, it would be taken for that of the new labels.
        What goes too much is compared again before the next merge. Chunks go last: a damaged one must not be in the
        way of a new one.
        """
        for index in indices:
            for pair in self.grid.pairs(index):
                for tile in (pair.low, pair.high):
                    self.path("seams", tile, "npy").unlink(missing_ok=True)
            self.path("tiles", index).unlink(missing_ok=True)
            self.path("failed", index).unlink(missing_ok=True)
            for path in self.chunk_files(self.grid[index]).values():
                path.unlink(missing_ok=True)

    def chunk_files(self, tile: Tile) -> dict[str, Path]:
        """The files that hold a tile's voxels: ``"labels"``, and ``"axis/side"`` for each of its bands."""
        place = Path("c", *map(str, tile.position))
        files = {"labels": self.folder / "labels" / place}
        for axis, side in self.band_keys:
            if self.grid.band(tile, axis, side) is not None:
                files[f"{axis}/{side}"] = self._band_path(axis, side) / place
        return files

    def array_folders(self) -> list[Path]:
        """The folders of all arrays of the stage."""
        return [self.folder / "labels", *(self._band_path(axis, side) for axis, side in self.band_keys)]

    def open_arrays(self) -> None:
        """Open every array, which shows whether the metadata are those of the grid.

        Raises
        ------
        StoreError
            Naming the first one that is not.
        """
        open_array.cache_clear()
        _ = self.labels
        for axis, side in self.band_keys:
            self._band(axis, side)


class StagingTile:
    """A tile whose model has run and whose writes are under way; `finish` makes it staged."""

    def __init__(self, store: StageStore, tile: Tile, found: Compacted, bands: Bands, record: TileRecord) -> None:
        self.store, self.tile, self.bands, self.record = store, tile, bands, record
        self._objects = npy_bytes(found.objects)
        self._labels = found.labels
        with writing_to(store.folder):
            self._writes = store.write(tile, found.labels, bands)

    def finish(self) -> TileRecord:
        """Wait for the writes, then write the marker: only now does the tile count.

        All that the marker vouches for is on the disk before it, also if the power goes: tensorstore synchronises
        its chunks.

        Raises
        ------
        StoreError
            If the disk is full, read-only or gone.
        """
        index = self.tile.index
        record = replace(self.record, objects_crc32=zlib.crc32(self._objects))
        with writing_to(self.store.folder):
            write_atomically(self.store.path("objects", index, "npy"), self._objects)
            files = self.store.chunk_files(self.tile).values()
            finish_writes(self._writes, files, lambda: self.store.write(self.tile, self._labels, self.bands))
            write_atomically(self.store.path("tiles", index), with_checksum(asdict(record)))
            self.store.path("failed", index).unlink(missing_ok=True)
        return record


def stage_tile(
    store: StageStore,
    tile: Tile,
    read: Callable[[], np.ndarray],
    segmenter: Callable[[np.ndarray], np.ndarray],
    name: str = "the model",
) -> StagingTile | TileRecord:
    """Run the model on one tile and start writing what it found. Nothing else in the package runs a model on a tile.

    Parameters
    ----------
    store : StageStore
    tile : Tile
    read : callable
        Returns the pixels of the tile's read box (time axes included; channels last, if there are several).
    segmenter : callable
        ``segmenter(pixels) -> labels`` over the spatial axes.
    name : str
        What errors call the segmenter.

    Returns
    -------
    TileRecord
        If the tile was staged already: the model is not run again.
    StagingTile
        Otherwise; call its ``finish()``.

    Raises
    ------
    LabelsError
        If the model returned something that is not a label image of the tile's shape.
    StoreError
        If the job folder is gone: found out before the model has worked for nothing.
    """
    if store.is_staged(tile.index):
        return store.record(tile.index)
    with writing_to(store.folder):
        os.stat(store.folder / "tiles")
    began = time.perf_counter()
    pixels = read()
    frames = store.grid.separate_axes
    spatial = pixels.reshape(pixels.shape[frames:])
    called = time.perf_counter()
    labels = segmenter(spatial)
    returned = time.perf_counter()
    found = compact(labels, tile.read.shape[frames:], tile, frames, name, store.grid.shape)
    bands = _cut_bands(store, tile, found)
    record = TileRecord(
        index=tile.index,
        n_objects=len(found.objects),
        typical_size=found.typical_size,
        n_whole=found.n_whole,
        model_seconds=returned - called,
        seconds=time.perf_counter() - began,
        host=socket.gethostname(),
        pid=os.getpid(),
        staged_at=time.time(),
        bands=[f"{axis}/{side}" for axis, side in bands],
    )
    return StagingTile(store, tile, found, bands, record)


def _cut_bands(store: StageStore, tile: Tile, found: Compacted) -> Bands:
    bands: Bands = {}
    for axis, side in store.band_keys:
        band = store.grid.band(tile, axis, side)
        if band is not None:
            bands[axis, side] = found.region(band.within(tile.read))
    return bands


# ------------------------------------------------------------------------------------------------------------- arrays
_CODECS: list[dict[str, Any]] = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "zstd", "configuration": {"level": 1, "checksum": True}},
]


def create_array(
    path: Path, shape: tuple[int, ...], chunk: tuple[int, ...], inner: tuple[int, ...] | None = None
) -> None:
    """Lay out an array of uint32 with one chunk (or one shard of `inner` chunks) for each tile; a no-op if it is there."""
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
    """An array of a stage, opened once per process: shape and chunk tell it from another job's at the same place."""
    import tensorstore as ts

    try:
        array = ts.open(_spec(path), open=True, assume_cached_metadata=False).result()
    except ValueError as error:
        stage = path.parent if path.name == "labels" else path.parents[2]
        if not (stage / "tiles").is_dir():
            # The folder went; a write that was under way may have made part of it anew, without its metadata.
            raise StoreError.of(FileNotFoundError(errno.ENOENT, "No such folder"), stage) from error
        raise _damaged(path, str(error)[:200]) from error
    found = tuple(array.domain.shape), tuple(array.chunk_layout.write_chunk.shape or ()), array.dtype.name
    if found != (shape, chunk, "uint32"):
        raise _damaged(path, "not the array that job.json asks for")
    return array


def _damaged(path: Path, why: str) -> StoreError:
    remedy = "put it back from a copy, or segment with overwrite=True (--overwrite)"
    return StoreError("job folder damaged", remedy, f"{path}: {why}")
