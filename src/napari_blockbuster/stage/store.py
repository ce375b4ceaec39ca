"""The stage: labels of every tile on disk, before they are merged.

Layout of a stage folder::

    labels/                       zarr v3, uint32, the image's shape, one shard per tile: ids 1..n of each tile's core
    tiles/<a>-<b>/<tile>.tile     all else of the tile (`napari_blockbuster.stage.records.tile_file`); it makes the tile staged
    seams/<a>-<b>/<tile>.npy      evidence, written by `napari_blockbuster.stage.seams.evidence`
    failed/<tile>.json            the reason why a tile failed

No two writers share a file. Folders of the first layout (`napari_blockbuster.stage.records.first_layout`) are read as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_blockbuster.geometry.tiles import Tile, TileGrid, browse_chunk
from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.files import discard, with_checksum, write_atomically
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.machine.system import sync_named
from napari_blockbuster.stage.records.first_layout import FirstLayout, first_marker
from napari_blockbuster.stage.records.records import (
    SHARD,
    TileFailure,
    TileRecord,
    in_shards,
    marker_name,
    read_failure,
    read_record,
    record_in,
    shard_of,
)
from napari_blockbuster.stage.records.tile_file import TileFile
from napari_blockbuster.stage.sums.label_sums import CONTACT, INTENSITY, PLACE, TileSums

from .arrays import ChunkBeingEncoded, create_array, encode_chunk, open_array
from .labels import OBJECT

if TYPE_CHECKING:
    import tensorstore as ts

__all__ = ["Bands", "StageStore", "StagedTile", "TileFailure", "TileRecord"]

Bands = dict[tuple[int, str], np.ndarray]
"""Labels of a tile beside each of its faces, keyed by (axis, side)."""
Kind = Literal["tiles", "failed", "seams"]
_SUFFIX = {"tiles": "tile", "seams": "npy"}
_FIRST_SUFFIX = {"tiles": "json", "seams": "npy", "failed": "json"}
_LABELS = np.dtype("<u4")


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
        for name in ("tiles", "failed", "seams"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        create_array(store._labels_path, grid.shape, grid.tile_shape, browse_chunk(grid.tile_shape))
        store._first.create_arrays()
        return store

    def delete(self) -> None:
        """Remove the stage from disk."""
        discard(self.folder)

    @property
    def _first(self) -> FirstLayout:
        return FirstLayout(self.folder, self.grid)

    # ----------------------------------------------------------------- labels
    @property
    def labels(self) -> ts.TensorStore:
        """The labels of all staged tiles, with ids local to each tile."""
        return open_array(self._labels_path, self.grid.shape, self.grid.tile_shape)

    @property
    def _labels_path(self) -> Path:
        return self.folder / "labels"

    def read_labels(self, tile: Tile) -> ts.Future[np.ndarray]:
        """Start reading the labels of a staged tile: uint32, shape of the core."""
        return self.labels[tile.core.slices].read()

    def encode_labels(self, tile: Tile, labels: np.ndarray) -> ChunkBeingEncoded:
        """Start encoding the labels of a tile, for `write_labels`. They must not change meanwhile."""
        return encode_chunk(self._labels_path, self.grid.shape, self.grid.tile_shape, tile.position, labels)

    def write_labels(self, tile: Tile, encoded: bytes) -> None:
        """Write the labels of a tile. They are on the disk, under their name, when this returns."""
        path = self.labels_file(tile)
        # The name is there before the disk is synchronized. Without the marker, nothing reads the file.
        write_atomically(path, encoded, durable=False, below=self._labels_path)
        sync_named(path)

    def labels_file(self, tile: Tile) -> Path:
        """Return the file of a tile's labels. Tiles without objects have none, unless they had objects before."""
        return self._labels_path.joinpath("c", *map(str, tile.position))

    # ---------------------------------------------------------------- records
    def path(self, kind: Kind, index: int) -> Path:
        """Return the path of a tile's file of one kind."""
        if kind == "tiles":
            return Path(marker_name(self.folder, index))
        if kind == "seams":
            return Path(in_shards(f"{self.folder}/seams", index, "npy"))
        # Failures are few, and a claim in this folder exists only while its tile is being segmented.
        return self.folder / "failed" / f"{index}.json"

    def write(self, kind: Kind, index: int, data: bytes, *, durable: bool = True) -> None:
        """Write a tile's file of one kind atomically."""
        write_atomically(self.path(kind, index), data, durable=durable, below=self.folder / kind)

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
        """Return whether a tile is staged."""
        return os.path.exists(marker_name(self.folder, index)) or os.path.exists(first_marker(self.folder, index))

    def indices(self, kind: Kind) -> set[int]:
        """Return the tiles that have a finished file of one kind."""
        return {index for index, _ in self._names(kind)}

    def files(self, kind: Kind) -> Iterator[tuple[int, Path]]:
        """Yield the tile and the path of each finished file of one kind, in both layouts."""
        folder = self.folder / kind
        return ((index, folder / name) for index, name in self._names(kind))

    def _names(self, kind: Kind) -> Iterator[tuple[int, str]]:
        """Yield the tile and the name of each file as text: to make a path of it takes longer than to find it."""
        folder = self.folder / kind
        with os.scandir(folder) as entries:
            found = sorted(entry.name for entry in entries if entry.name[:1].isdigit())
        for name in found:
            if "-" not in name:
                # Failures, and files of the first layout.
                stem, _, suffix = name.partition(".")
                if stem.isdigit() and suffix == _FIRST_SUFFIX[kind]:
                    yield int(stem), name
                continue
            first = name.partition("-")[0]
            if kind not in _SUFFIX or not first.isdigit() or shard_of(int(first)) != name:
                continue
            end = f".{_SUFFIX[kind]}"
            here = range(int(first), int(first) + SHARD)
            for file in _files_in(folder, name):
                stem = file.removesuffix(end)
                # A file in the folder of other tiles is not read as the file of its tile.
                if len(stem) < len(file) and stem.isdigit() and int(stem) in here:
                    yield int(stem), f"{name}/{file}"

    def staged(self, index: int, *, recent: bool = False) -> StagedTile:
        """Open the file of a staged tile. With `recent`, parts that this process has read before may come from memory.

        Raises
        ------
        FileNotFoundError
            If the tile is not staged.
        ValueError
            If it is damaged.
        """
        try:
            opened = TileFile.recent if recent else TileFile
            return StagedTile(self, index, opened(marker_name(self.folder, index)))
        except FileNotFoundError:
            if not os.path.exists(first_marker(self.folder, index)):
                raise
        return StagedTile(self, index, None)

    def read_band(self, index: int, axis: int, side: str) -> np.ndarray:
        """Return the labels of a staged tile beside a face; see `StagedTile.band`."""
        return self.staged(index).band(axis, side)

    def record(self, index: int) -> TileRecord:
        """Return the record of a staged tile.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        return read_record(self.folder, index)

    def failure(self, index: int) -> TileFailure:
        """Return the reason why a tile failed."""
        try:
            return read_failure(self.path("failed", index))
        except ValueError as error:
            # Nothing depends on it: the tile is segmented again anyway.
            return TileFailure(index, "unknown", str(error))

    def fail(self, failure: TileFailure) -> None:
        """Write the record of a failure."""
        with writing_to(self.folder):
            self.write("failed", failure.index, with_checksum(asdict(failure)))

    # ------------------------------------------------------------------ tiles
    def unstage(self, indices: Iterable[int], remove: Callable[[Path], None] = _unlink) -> None:
        """Remove tiles from the stage, so that they are segmented again. `remove` deletes a file if it exists.

        Evidence that names them is deleted first: if a crash left it behind, it would be taken for evidence of the new
        labels. Other evidence in the same files is computed again before the next merge. Labels are deleted last.
        """
        for index in indices:
            for pair in self.grid.pairs(index):
                for tile in (pair.low, pair.high):
                    self.drop_evidence(tile, remove)
            for path in reversed(self.tile_files(index)):
                remove(path)
            remove(self.path("failed", index))

    def drop_marker(self, index: int, remove: Callable[[Path], None] = _unlink) -> None:
        """Delete the marker of a tile, in both layouts. The grid need not have the tile."""
        remove(self.path("tiles", index))
        if self._first.exists:
            remove(self._first.marker(index))

    def drop_evidence(self, index: int, remove: Callable[[Path], None] = _unlink) -> None:
        """Delete the file of evidence of a tile, in both layouts."""
        remove(self.path("seams", index))
        if self._first.exists:
            remove(self._first.evidence(index))

    def tile_files(self, index: int) -> list[Path]:
        """Return the files that a staged tile may have, its marker last."""
        tile = self.grid[index]
        first = self._first.files(tile) if self._first.exists else []
        return [self.labels_file(tile), *first, self.path("tiles", index)]

    def copy(self, index: int, target: StageStore, owner: Owner) -> None:
        """Copy the files of a staged tile to a stage in which it is not staged, unless the job was taken over.

        If this is killed half-way, the tile is missing in the target.
        """
        for path in self.tile_files(index):
            if path.exists():
                copied = target.folder / path.relative_to(self.folder)
                owner.write(copied, path.read_bytes(), below=target.folder)

    def array_folders(self) -> list[Path]:
        """Return the folders of all arrays of the stage."""
        return [self._labels_path, *self._first.array_folders()]

    def open_arrays(self) -> None:
        """Open every array, to check that its metadata match the grid.

        Raises
        ------
        StoreError
            If an array does not match. The message names the first one.
        """
        open_array.cache_clear()
        _ = self.labels
        self._first.open_arrays()


def _files_in(folder: Path, name: str) -> list[str]:
    """Return the names in a folder for some tiles; none if it is no folder."""
    try:
        with os.scandir(folder / name) as entries:
            return [entry.name for entry in entries]
    except NotADirectoryError:
        return []
    except FileNotFoundError:
        # A stage that was deleted meanwhile is not an empty one.
        os.stat(folder)
        return []


class StagedTile:
    """Everything that is kept of a staged tile beside its labels.

    Parameters
    ----------
    store : StageStore
    index : int
    file : TileFile or None
        None if the tile is stored in the first layout.
    """

    def __init__(self, store: StageStore, index: int, file: TileFile | None) -> None:
        self._grid, self.index = store.grid, index
        self._file, self._first = file, FirstLayout(store.folder, store.grid)
        self.record = record_in(file) if file is not None else read_record(store.folder, index)

    @property
    def stamp(self) -> int:
        """A number that changes when the tile is segmented again."""
        return self._first.stamp(self.index) if self._file is None else self._file.checksum

    def objects(self) -> np.ndarray:
        """Return the sizes of the tile's objects: one `napari_blockbuster.stage.labels.OBJECT` for each id from 1."""
        if self._file is None:
            return self._first.objects(self.index)
        found = self._file.part("objects", OBJECT)
        return np.zeros(0, OBJECT) if found is None else found

    def sums(self) -> TileSums | None:
        """Return the sums of the tile's labels; None if an earlier version staged the tile without them."""
        ndim = self._grid.ndim - self._grid.separate_axes
        if not self.record.n_objects:
            return TileSums.empty(ndim)
        place = None if self._file is None else self._file.part("sums", PLACE)
        if self._file is None or place is None:
            return None
        intensity, contacts = self._file.part("intensity", INTENSITY), self._file.part("contacts", CONTACT)
        return TileSums(
            place,
            np.zeros((0, 5 + ndim, place.shape[1]), INTENSITY) if intensity is None else intensity,
            np.zeros(0, CONTACT) if contacts is None else contacts,
        )

    def band(self, axis: int, side: str) -> np.ndarray:
        """Return the labels of the tile beside a face: uint32, shape of ``grid.band(tile, axis, side)``."""
        if self._file is not None and (found := self._file.part(f"{axis}/{side}", _LABELS)) is not None:
            return found
        tile = self._grid[self.index]
        band = self._grid.band(tile, axis, side)
        if band is None:
            raise ValueError(f"{tile} has no neighbor at its {side!r} face along axis {axis}")
        if self._file is None:
            return self._first.read_band(tile, axis, side, band)
        # Bands without labels are not stored.
        return np.zeros(band.shape, _LABELS)

    def problems(self) -> list[str]:
        """Return the damage of the files, without a look at what they say about each other."""
        if self._file is None:
            return self._first.problems(self._grid[self.index], self.record.objects_crc32)
        self._file.check()
        return []
