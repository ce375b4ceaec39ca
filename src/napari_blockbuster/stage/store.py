"""The stage: labels of every tile on disk, before they are merged.

Layout of a stage folder (zarr v3, one chunk or shard per tile, so that no two writers share a file)::

    labels/                 uint32, the image's shape: ids 1..n of each tile's core
    bands/<axis>/<side>/    uint32: a tile's labels on both sides of a face of its core
    objects/<tile>.npy      size of each object (`napari_blockbuster.stage.labels.OBJECT`), n entries
    seams/<tile>.npy        evidence, written by `napari_blockbuster.stage.seams`
    tiles/<tile>.json       the marker, written last and atomically: it makes the tile staged
    failed/<tile>.json      the reason why a tile failed
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box, Tile, TileGrid, browse_chunk
from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.files import discard, read_table, with_checksum, write_atomically

from .arrays import create_array, open_array
from .labels import OBJECT
from .records import TileFailure, TileRecord, read_record

if TYPE_CHECKING:
    import tensorstore as ts

__all__ = ["Bands", "StageStore", "TileFailure", "TileRecord", "read_table"]

Bands = dict[tuple[int, str], np.ndarray]
"""Labels of a tile beside each of its faces, keyed by (axis, side)."""


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


@dataclass(frozen=True)
class StageStore:
    """The stage folder of one job. A small picklable handle; arrays are opened once per process."""

    folder: Path
    grid: TileGrid

    # ---------------------------------------------------------------- folders
    @classmethod
    def create(cls, folder: Path, grid: TileGrid) -> StageStore:
        """Create an empty stage. Parts that exist already stay as they are."""
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
        """Start reading the labels of a staged tile: uint32, shape of the core."""
        return self.labels[tile.core.slices].read()

    def read_band(self, tile: Tile, axis: int, side: str) -> np.ndarray:
        """Return the labels of a staged tile beside a face: uint32, shape of ``grid.band(tile, axis, side)``."""
        band = self.grid.band(tile, axis, side)
        if band is None:
            raise ValueError(f"{tile} has no neighbor at its {side!r} face along axis {axis}")
        array: np.ndarray = self._band(axis, side)[self._slot(tile, axis, band)].read().result()
        return array

    def write(self, tile: Tile, labels: np.ndarray, bands: Bands) -> list[Any]:
        """Start writing the labels and bands of a tile; return the futures of the writes."""
        # Nothing else uses the arrays, so tensorstore may encode them in its own threads without a copy.
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
        """Return the path of a tile's file of one kind: tiles, failed, objects, seams."""
        return self.folder / kind / f"{index}.{suffix}"

    def hang_note(self, index: int) -> Path:
        """Return the file for the traceback of a process that the time limit ends (see `execution.time_limit`)."""
        return self.folder / "failed" / f".{index}.hang"

    def claim_file(self, index: int) -> Path:
        """Return the file that a process locks while it segments a tile (see `napari_blockbuster.stage.claims`)."""
        return self.folder / "failed" / f".{index}.claim"

    def forget_hangs(self) -> None:
        """Delete the notes of an earlier run on tiles that hung, so that they are tried again."""
        for note in (self.folder / "failed").glob(".*.hang"):
            note.unlink(missing_ok=True)

    def is_staged(self, index: int) -> bool:
        """Return whether the marker of a tile is on disk."""
        return self.path("tiles", index).exists()

    def indices(self, kind: str) -> set[int]:
        """Return the tiles that have a finished file of one kind."""
        with os.scandir(self.folder / kind) as entries:
            stems = (entry.name.partition(".")[0] for entry in entries if not entry.name.startswith("."))
            return {int(stem) for stem in stems if stem.isdigit()}

    def record(self, index: int) -> TileRecord:
        """Return the marker of a staged tile.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        return read_record(TileRecord, self.path("tiles", index))

    def failure(self, index: int) -> TileFailure:
        """Return the reason why a tile failed."""
        try:
            return read_record(TileFailure, self.path("failed", index))
        except ValueError as error:
            # Nothing depends on it: the tile is segmented again anyway.
            return TileFailure(index, "unknown", str(error))

    def objects(self, index: int) -> np.ndarray:
        """Return the sizes of a tile's objects: one `napari_blockbuster.stage.labels.OBJECT` for each id from 1."""
        return read_table(self.path("objects", index, "npy"), OBJECT)

    def fail(self, failure: TileFailure) -> None:
        """Write the record of a failure."""
        with writing_to(self.folder):
            write_atomically(self.path("failed", failure.index), with_checksum(asdict(failure)))

    def unstage(self, indices: Iterable[int], remove: Callable[[Path], None] = _unlink) -> None:
        """Remove tiles from the stage, so that they are segmented again. `remove` deletes a file if it exists.

        Evidence that names them is deleted first: if a crash left it behind, it would be taken for evidence of the new
        labels. Other evidence in the same files is computed again before the next merge. Chunks are deleted last, because a
        damaged chunk can prevent a new one from being written.
        """
        for index in indices:
            for pair in self.grid.pairs(index):
                for tile in (pair.low, pair.high):
                    remove(self.path("seams", tile, "npy"))
            remove(self.path("tiles", index))
            remove(self.path("failed", index))
            for path in self.chunk_files(self.grid[index]).values():
                remove(path)

    def chunk_files(self, tile: Tile) -> dict[str, Path]:
        """Return the files that hold a tile's voxels: ``"labels"``, and ``"axis/side"`` for each of its bands."""
        place = Path("c", *map(str, tile.position))
        files = {"labels": self.folder / "labels" / place}
        for axis, side in self.band_keys:
            if self.grid.band(tile, axis, side) is not None:
                files[f"{axis}/{side}"] = self._band_path(axis, side) / place
        return files

    def array_folders(self) -> list[Path]:
        """Return the folders of all arrays of the stage."""
        return [self.folder / "labels", *(self._band_path(axis, side) for axis, side in self.band_keys)]

    def open_arrays(self) -> None:
        """Open every array, to check that its metadata match the grid.

        Raises
        ------
        StoreError
            If an array does not match. The message names the first one.
        """
        open_array.cache_clear()
        _ = self.labels
        for axis, side in self.band_keys:
            self._band(axis, side)


# ------------------------------------------------------------------------------------------------------------- arrays
