"""Stage folders of the first layout, which kept several small files for each tile. They are read and deleted, never written.

Layout::

    bands/<axis>/<side>/    uint32: a tile's labels on both sides of a face of its core
    objects/<tile>.npy      size of each object (`napari_blockbuster.stage.labels.OBJECT`), n entries
    seams/<tile>.npy        evidence
    tiles/<tile>.json       the marker

Tiles that are segmented in such a folder now have files of the present layout. A folder may therefore hold both.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_blockbuster.geometry.tiles import Box, Tile, TileGrid
from napari_blockbuster.machine.files import read_table
from napari_blockbuster.stage.arrays import create_array, open_array
from napari_blockbuster.stage.labels import OBJECT

if TYPE_CHECKING:
    import tensorstore as ts

__all__ = ["FirstLayout", "first_marker"]


def first_marker(stage: Path, index: int) -> str:
    """Return the name of the marker of a tile in the first layout."""
    return f"{stage}/tiles/{index}.json"


@dataclass(frozen=True)
class FirstLayout:
    """The files of the first layout in a stage folder."""

    folder: Path
    grid: TileGrid

    @property
    def exists(self) -> bool:
        """Whether the folder was created with the first layout."""
        return (self.folder / "objects").is_dir()

    def marker(self, index: int) -> Path:
        return Path(first_marker(self.folder, index))

    def evidence(self, index: int) -> Path:
        return self.folder / "seams" / f"{index}.npy"

    def files(self, tile: Tile) -> list[Path]:
        """Return the files of a tile without its labels, marker last."""
        place = Path("c", *map(str, tile.position))
        bands = [self._band_path(*key) / place for key in self._bands_of(tile)]
        return [*bands, self._objects(tile.index), self.marker(tile.index)]

    def stamp(self, index: int) -> int:
        """Return a number that changes when a tile is segmented again."""
        return zlib.crc32(self.marker(index).read_bytes())

    def objects(self, index: int) -> np.ndarray:
        """Return the sizes of a tile's objects."""
        return read_table(self._objects(index), OBJECT)

    def _objects(self, index: int) -> Path:
        return self.folder / "objects" / f"{index}.npy"

    # ------------------------------------------------------------------------------------------------------------ bands
    def read_band(self, tile: Tile, axis: int, side: str, band: Box) -> np.ndarray:
        """Return the labels of a tile beside a face."""
        start = tile.position[axis] * self.grid.band_thickness(axis)
        slices = list(band.slices)
        slices[axis] = slice(start, start + band.shape[axis])
        array: np.ndarray = self._band(axis, side)[tuple(slices)].read().result()
        return array

    def array_folders(self) -> list[Path]:
        """Return the folders of the arrays of bands; none in a folder of the present layout."""
        return [self._band_path(*key) for key in self._arrays()]

    def _arrays(self) -> tuple[tuple[int, str], ...]:
        return self.grid.band_keys if self.exists else ()

    def create_arrays(self) -> None:
        """Write the metadata of the arrays of bands again, where they are lost."""
        for axis, side in self._arrays():
            create_array(self._band_path(axis, side), self._band_shape(axis), self._band_chunk(axis))

    def open_arrays(self) -> None:
        """Open every array of bands, to check that its metadata match the grid."""
        for axis, side in self._arrays():
            self._band(axis, side)

    def problems(self, tile: Tile, checksum: int) -> list[str]:
        """Return what is wrong with the files of a tile, except for what their content says.

        Parameters
        ----------
        tile : Tile
        checksum : int
            Checksum of the table of objects, from the marker.
        """
        if zlib.crc32(self._objects(tile.index).read_bytes()) != checksum:
            return ["objects: the checksum of the marker does not fit"]
        place = Path("c", *map(str, tile.position))
        for key in self._bands_of(tile):
            if not (path := self._band_path(*key) / place).exists():
                return [f"{key[0]}/{key[1]}: there is no file {path.name} for it"]
        return []

    def _bands_of(self, tile: Tile) -> list[tuple[int, str]]:
        return [key for key in self.grid.band_keys if self.grid.band(tile, *key) is not None]

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
