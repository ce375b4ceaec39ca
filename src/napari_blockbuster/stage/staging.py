"""Stage the labels of one tile: number them, write them, and mark the tile as staged."""

from __future__ import annotations

import os
import socket
import time
import zlib
from dataclasses import asdict, replace

import numpy as np

from napari_blockbuster.geometry.tiles import Tile
from napari_blockbuster.machine.disk import finish_writes, writing_to
from napari_blockbuster.machine.files import npy_bytes, with_checksum, write_atomically

from .labels import Compacted, compact
from .records import TileRecord
from .store import Bands, StageStore

__all__ = ["StagingTile", "check_folder", "stage_labels"]


class StagingTile:
    """A tile whose model has run and whose writes are pending. `finish` makes it staged."""

    def __init__(self, store: StageStore, tile: Tile, found: Compacted, bands: Bands, record: TileRecord) -> None:
        self.store, self.tile, self.bands, self.record = store, tile, bands, record
        self._objects = npy_bytes(found.objects)
        self._labels = found.labels
        with writing_to(store.folder):
            # The library creates missing folders: it must not begin a stage again whose job was replaced meanwhile.
            os.stat(store.folder / "tiles")
            self._writes = store.write(tile, found.labels, bands)

    def finish(self) -> TileRecord:
        """Wait for the writes, then write the marker. Only then is the tile staged.

        The labels, bands and objects reach the disk before the marker does, also if the power fails: tensorstore
        synchronizes its chunks.

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


def check_folder(store: StageStore) -> None:
    """Refuse a stage folder that is gone, before the model runs on a tile of it.

    Raises
    ------
    StoreError
        If the folder is gone.
    """
    with writing_to(store.folder):
        os.stat(store.folder / "tiles")


def stage_labels(
    store: StageStore,
    tile: Tile,
    labels: np.ndarray,
    name: str = "the model",
    *,
    model_seconds: float = 0.0,
    seconds: float = 0.0,
) -> StagingTile:
    """Check the labels that a model returned for a tile, and start writing them.

    Parameters
    ----------
    store : StageStore
    tile : Tile
    labels : numpy.ndarray
        Labels of the tile's read box over the spatial axes.
    name : str
        Name of the model in error messages.
    model_seconds, seconds : float
        Wall time inside the model, and of reading and the model.

    Returns
    -------
    StagingTile
        Call its ``finish()``.

    Raises
    ------
    LabelsError
        If these are no labels of the tile.
    """
    began = time.perf_counter()
    found = compact(labels, tile, store.grid, name)
    bands = _cut_bands(store, tile, found)
    record = TileRecord(
        index=tile.index,
        n_objects=len(found.objects),
        typical_size=found.typical_size,
        n_whole=found.n_whole,
        model_seconds=model_seconds,
        seconds=seconds + time.perf_counter() - began,
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
