"""Stage the labels of one tile: number them, write them, and mark the tile as staged."""

from __future__ import annotations

import os
import socket
import time
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from napari_blockbuster.geometry.tiles import Tile
from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.stage.records.records import TileRecord
from napari_blockbuster.stage.records.tile_file import packed
from napari_blockbuster.stage.sums.label_sums import TileSums, tile_sums

from .labels import Compacted, compact, lookup
from .store import Bands, StageStore

__all__ = ["StagingTile", "check_folder", "stage_labels", "warm_up"]


class StagingTile:
    """A tile whose model has run and whose writes are pending. `finish` makes it staged."""

    def __init__(
        self, store: StageStore, tile: Tile, found: Compacted, bands: Bands, record: TileRecord, sums: TileSums
    ) -> None:
        self.store, self.tile, self.bands, self.record, self.sums = store, tile, bands, record, sums
        self._objects = found.objects
        with writing_to(store.folder):
            # Folders that are missing are created: a stage whose job was replaced meanwhile must not begin again.
            os.stat(store.folder / "tiles")
            self._labels = store.encode_labels(tile, found.labels) if self._has_labels() else None

    def _has_labels(self) -> bool:
        # Of a tile without objects, labels are written only to replace those of an attempt that was killed.
        return self.record.n_objects > 0 or self.store.labels_file(self.tile).exists()

    def finish(self) -> TileRecord:
        """Write the labels, then everything else in one file. Only then is the tile staged.

        The labels reach the disk before that file has its name, also if the power fails.

        Raises
        ------
        StoreError
            If the disk is full, read-only or gone.
        """
        index = self.tile.index
        began = time.perf_counter()
        with writing_to(self.store.folder):
            if self._labels is not None:
                self.store.write_labels(self.tile, self._labels.result())
        # The rest of the writing cannot be in the file that it writes.
        seconds = time.perf_counter() - began
        record = replace(self.record, objects_crc32=zlib.crc32(self._objects.tobytes()), write_seconds=seconds)
        content = packed(dict(vars(record)), self._parts())
        with writing_to(self.store.folder):
            self.store.write("tiles", index, content)
            self.store.path("failed", index).unlink(missing_ok=True)
        return record

    def _parts(self) -> dict[str, np.ndarray]:
        parts = {"objects": self._objects} if len(self._objects) else {}
        bands = {f"{axis}/{side}": band for (axis, side), band in self.bands.items() if band.any()}
        # Bands are read by every neighbor, sums only for a table.
        return parts | bands | self.sums.parts()


def check_folder(store: StageStore) -> None:
    """Refuse a stage folder that is gone, before the model runs on a tile of it.

    Raises
    ------
    StoreError
        If the folder is gone.
    """
    with writing_to(store.folder):
        os.stat(store.folder / "tiles")


def warm_up(ndim: int, dtype: Any) -> None:
    """Import and compile what staging needs: numba takes as long as some tiles.

    Parameters
    ----------
    ndim : int
        Spatial axes of a tile.
    dtype : dtype_like
        Of the pixels.
    """
    one = np.ones((2,) * ndim, np.uint32)
    lookup(np.arange(2, dtype=np.uint32), one.copy())
    packed({}, tile_sums(one, 1, one.astype(dtype)).parts())


def stage_labels(
    store: StageStore,
    tile: Tile,
    labels: np.ndarray,
    name: str = "the model",
    *,
    pixels: np.ndarray | None = None,
    model_seconds: float = 0.0,
    seconds: float = 0.0,
    costs: Mapping[str, Any] | None = None,
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
    pixels : numpy.ndarray, optional
        Pixels of the tile's core over the spatial axes, to sum for each label. Several channels are the last axis.
    model_seconds, seconds : float
        Wall time inside the model, and of reading and the model.
    costs : mapping, optional
        More values of the record, by name.

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
    core = found.labels.reshape(found.labels.shape[store.grid.separate_axes :])
    sums = tile_sums(core, len(found.objects), pixels)
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
    record = replace(record, **(costs or {}))
    return StagingTile(store, tile, found, bands, record, sums)


def _cut_bands(store: StageStore, tile: Tile, found: Compacted) -> Bands:
    bands: Bands = {}
    for axis, side in store.grid.band_keys:
        band = store.grid.band(tile, axis, side)
        if band is not None:
            bands[axis, side] = found.region(band.within(tile.read))
    return bands
