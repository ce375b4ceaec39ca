"""Regions of staged tiles on disk, and which of them touch.

A region is a connected component (through faces of voxels) of a label or of the background. The first region of a label has the
id of the label. All others (pieces) are numbered after the labels, so that one look-up relabels everything. Regions are computed
from the labels when holes are to be filled, and again for tiles that were segmented again. Layout, inside the stage folder::

    regions/arrays/regions/           uint32, the image's shape: regions 1..n (labels), n+1..n+p (pieces) of each tile's core
    regions/tiles/<a>-<b>/<tile>.npy  pieces, sizes, faces of the core that each region reaches, contacts; written last
    regions/faces/<a>-<b>/<tile>.npy  contacts across the faces between a tile and those that come after it
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_blockbuster.geometry.tiles import Tile, browse_chunk
from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.files import npy_bytes, read_table, write_atomically
from napari_blockbuster.stage.arrays import create_array, open_array
from napari_blockbuster.stage.records.records import in_shards
from napari_blockbuster.stage.store import StageStore

if TYPE_CHECKING:
    import tensorstore as ts

__all__ = ["RegionStore", "TileRegions"]

NUMBERS = np.dtype("<u4")


@dataclass(frozen=True)
class TileRegions:
    """The regions of one tile.

    Attributes
    ----------
    stamp : int
        Names the marker of the tile that they were made from.
    n_labels : int
    parents : numpy.ndarray
        uint32, the label of each piece; 0 for background.
    sizes : numpy.ndarray
        uint32, voxels of each region, labels first.
    faces : numpy.ndarray
        uint32, for each region a bit for each face of the core that it reaches: bit ``2 * axis`` at the lower
        end of an axis, the next one at the upper end.
    touching : numpy.ndarray
        uint32 of shape (n, 2): regions of the tile that share a face of two voxels.
    """

    stamp: int
    n_labels: int
    parents: np.ndarray
    sizes: np.ndarray
    faces: np.ndarray
    touching: np.ndarray

    def packed(self) -> np.ndarray:
        """Return the regions as one table of uint32."""
        head = [self.stamp, self.n_labels, len(self.parents)]
        parts = [np.array(head, NUMBERS), self.parents, self.sizes, self.faces, self.touching.reshape(-1)]
        return np.concatenate(parts)

    @classmethod
    def unpacked(cls, table: np.ndarray) -> TileRegions:
        """Return the regions from a table of `packed`."""
        stamp, n_labels, n_pieces = map(int, table[:3])
        n = n_labels + n_pieces
        parents, sizes, faces, pairs = np.split(table[3:], [n_pieces, n_pieces + n, n_pieces + 2 * n])
        return cls(stamp, n_labels, parents, sizes, faces, pairs.reshape(-1, 2))


@dataclass(frozen=True)
class RegionStore:
    """Regions of the tiles of a stage. A small picklable handle."""

    stage: StageStore

    @property
    def folder(self) -> Path:
        return self.stage.folder / "regions"

    def create(self) -> None:
        """Create folders and arrays that do not exist."""
        grid = self.stage.grid
        for name in ("tiles", "faces"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        create_array(self._path, grid.shape, grid.tile_shape, browse_chunk(grid.tile_shape))

    @property
    def _path(self) -> Path:
        return self.folder / "arrays" / "regions"

    @property
    def array(self) -> ts.TensorStore:
        """The regions of all tiles that have them, with numbers local to each tile: uint32."""
        grid = self.stage.grid
        return open_array(self._path, grid.shape, grid.tile_shape)

    def read(self, tile: Tile) -> ts.Future[np.ndarray]:
        """Start reading a tile's regions: uint32, shape of the core."""
        return self.array[tile.core.slices].read()

    # ----------------------------------------------------------------- tables
    def stamp(self, index: int) -> int:
        """Return a number that identifies the marker of a staged tile, and changes when the tile is segmented again."""
        return self.stage.staged(index).stamp

    def save(self, index: int, found: TileRegions) -> None:
        """Write the table of a tile whose voxels are on disk."""
        self._write("tiles", index, found.packed())

    def load(self, index: int, stamp: int) -> TileRegions | None:
        """Return the table of a tile, or None if there is no valid one."""
        table = self._read("tiles", index)
        if table is None or len(table) < 3 or int(table[0]) != stamp or not self.chunk_file(index).exists():
            return None
        return TileRegions.unpacked(table)

    def holds_for(self, index: int) -> bool:
        """Return whether the regions of a tile, if it has valid ones, are readable and agree with its labels."""
        tile = self.stage.grid[index]
        try:
            table = self.load(index, self.stamp(index))
            if table is None:
                return True
            labels = np.concatenate([np.arange(table.n_labels + 1, dtype=np.uint32), table.parents])
            regions = self.read(tile).result()
            return bool(
                regions.max(initial=0) < len(labels)
                and np.array_equal(labels[regions], self.stage.read_labels(tile).result())
            )
        except (ValueError, OSError):
            return False

    def drop(self, index: int) -> None:
        """Delete the table of a tile before its voxels are written again."""
        self.path("tiles", index).unlink(missing_ok=True)

    def save_faces(self, index: int, contacts: dict[int, tuple[int, int, np.ndarray]]) -> None:
        """Write the contacts across the faces of a tile: for each axis the stamps of both tiles, and pairs (own, other)."""
        parts = [np.zeros(0, NUMBERS)]
        for axis, (own, other, pairs) in contacts.items():
            parts += [np.array([axis, own, other, len(pairs)], NUMBERS), pairs.reshape(-1)]
        self._write("faces", index, np.concatenate(parts))

    def load_faces(self, index: int) -> dict[int, tuple[int, int, np.ndarray]]:
        """Return the contacts that `save_faces` wrote, or an empty dict if the file cannot be read."""
        table = self._read("faces", index)
        found: dict[int, tuple[int, int, np.ndarray]] = {}
        at = 0
        while table is not None and at < len(table):
            axis, own, other, n = map(int, table[at : at + 4])
            found[axis] = own, other, table[at + 4 : at + 4 + 2 * n].reshape(-1, 2)
            at += 4 + 2 * n
        return found

    def path(self, kind: str, index: int) -> Path:
        """Return the path of a tile's table: ``"tiles"`` or ``"faces"``."""
        return Path(in_shards(self.folder / kind, index, "npy"))

    def chunk_file(self, index: int) -> Path:
        """Return the file that holds the voxels of a tile."""
        return self._path.joinpath("c", *map(str, self.stage.grid.position(index)))

    def _write(self, kind: str, index: int, table: np.ndarray) -> None:
        table = table.astype(NUMBERS, copy=False)
        checksum = np.array([zlib.crc32(table.tobytes())], NUMBERS)
        with writing_to(self.folder):
            data = npy_bytes(np.concatenate([checksum, table]))
            write_atomically(self.path(kind, index), data, durable=False, below=self.folder / kind)

    def _read(self, kind: str, index: int) -> np.ndarray | None:
        """Return a table without its checksum, or None if it is missing or damaged: it can be computed again."""
        try:
            table = read_table(self.path(kind, index), NUMBERS)
        except (FileNotFoundError, ValueError):
            return None
        return table[1:] if len(table) and int(table[0]) == zlib.crc32(table[1:].tobytes()) else None


# ---------------------------------------------------------------------------------------------------------- of a tile
