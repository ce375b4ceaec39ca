"""Write merged labels as OME-Zarr, tile by tile. Each file has one writer, and tiles write their share of the pyramid."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box, Tile, TileGrid, browse_chunk
from napari_blockbuster.machine.disk import StoreError, writing_to
from napari_blockbuster.machine.system import syncs, tensorstore_path

from .groups import plain_text, update_attributes
from .ngff import Level, attributes, check_version, plan_levels

if TYPE_CHECKING:
    import tensorstore as ts

__all__ = ["LabelsWriter", "Pending", "array_options", "write_errors"]

SHARE = 32
"""Shortest side of the share of a level that a tile writes. Coarser levels are written in larger blocks."""


class Pending:
    """Pending writes; ``result()`` waits for them."""

    def __init__(self, path: Path, futures: list[Any]) -> None:
        self._path, self._futures = path, futures

    def result(self) -> None:
        """Wait until the writes are on disk.

        Raises
        ------
        StoreError
            If a write failed.
        """
        for future in self._futures:
            with write_errors(self._path):
                future.result()


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn errors of tensorstore into a `StoreError` that names the labels. Wrap only calls of tensorstore."""
    try:
        yield
    except Exception as error:
        raise StoreError.of(error, path) from error


@dataclass(frozen=True)
class LabelsWriter:
    """Writer of one label image. A small picklable handle; arrays are opened once per process.

    Attributes
    ----------
    path : Path
        The group, at a temporary path until `put_in_place`.
    grid : TileGrid
    levels : tuple of Level
    blocks : tuple of tuple of int
        For each level, the block that one writer owns: a shard (0.5), or a multiple of chunks (0.4).
    opening : str
        Identifies this label image among others at the same path, because a process keeps arrays open.
    """

    path: Path
    grid: TileGrid
    levels: tuple[Level, ...]
    blocks: tuple[tuple[int, ...], ...]
    version: str = "0.5"
    opening: str = field(default_factory=lambda: os.urandom(8).hex())

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        grid: TileGrid,
        dtype: Any,
        axes: Sequence[str],
        scale: Sequence[float],
        units: Sequence[str | None],
        translation: Sequence[float] | None = None,
        name: str,
        version: str = "0.5",
        source_image: str | None = None,
        n_levels: int | None = None,
    ) -> LabelsWriter:
        """Create the group and its arrays.

        Parameters
        ----------
        path : path
            Where to write; it must not exist.
        grid : TileGrid
        dtype : numpy dtype
            uint32 or uint64.
        axes, scale, units, translation
            For each axis of the grid.
        name : str
        version : {"0.5", "0.4"}
            0.5 is zarr v3, a shard for each tile; 0.4 is zarr v2, chunks that divide tiles.
        source_image : str, optional
            Path of the image, relative to the labels.
        n_levels : int, optional
            Default: until the longest spatial extent is at most 256 voxels.

        Raises
        ------
        ValueError
            For another version.
        FileExistsError
            If the path exists.
        StoreError
            If the disk is full, read-only or gone.
        """
        import zarr

        check_version(version)
        path = Path(path)
        if path.exists():
            raise FileExistsError(f"{path} exists")
        levels = plan_levels(grid.shape, scale, grid.separate_axes, n_levels)
        blocks = tuple(_block(grid, level) for level in levels)
        said = attributes(
            levels,
            version=version,
            axes=axes,
            scale=scale,
            units=units,
            translation=translation,
            name=name,
            source_image=source_image,
        )
        with writing_to(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            zarr.create_group(str(path), zarr_format=3 if version == "0.5" else 2, attributes=plain_text(said))
            for number, (level, block) in enumerate(zip(levels, blocks, strict=True)):
                options = array_options(block, version, axes)
                zarr.create_array(
                    str(path / str(number)), shape=level.shape, dtype=np.dtype(dtype), fill_value=0, **options
                )
        return cls(path, grid, tuple(levels), blocks, version)

    # ------------------------------------------------------------- tile by tile
    def write_tile(self, tile: Tile, labels: np.ndarray) -> Pending:
        """Start writing a tile's merged labels, and its share of all levels that tiles write.

        Parameters
        ----------
        tile : Tile
        labels : numpy.ndarray
            Shape of the core; it must not be changed afterwards.
        """
        futures = []
        for number in self._tile_levels():
            factors = self.levels[number].factors
            box = _reduced(tile.core, factors)
            # Tiles start at multiples of the factor, so each starts with a voxel of the level.
            values = np.ascontiguousarray(labels[tuple(slice(None, None, f) for f in factors)])
            futures.append(self._array(number)[box.slices].write(values, can_reference_source_data_indefinitely=True))
        return Pending(self.path, futures)

    def _tile_levels(self) -> list[int]:
        """Return the levels that one pass over the tiles writes."""
        own = itertools.takewhile(lambda n: _is_tile_level(self.grid, self.levels[n]), range(len(self.levels)))
        return list(own)

    # -------------------------------------------------------- the coarse levels
    def passes(self) -> list[list[tuple[int, Box]]]:
        """Return the blocks of each level that is written after the tiles, from the level below.

        The blocks of a level may be written in any order and in parallel, the levels one after the other.
        """
        first = len(self._tile_levels())
        return [[(n, box) for box in self._boxes(n)] for n in range(first, len(self.levels))]

    def _boxes(self, number: int) -> list[Box]:
        shape, block = self.levels[number].shape, self.blocks[number]
        return [tile.core for tile in TileGrid(shape, block)]

    def meets(self, number: int, box: Box, tiles: set[int]) -> bool:
        """Whether a block of a coarse level shows any of some tiles."""
        start, stop = (
            tuple(x * f for x, f in zip(ends, self.levels[number].factors, strict=True))
            for ends in (box.start, box.stop)
        )
        return not tiles.isdisjoint(self.grid.tiles_in(Box(start, stop)))

    def write_block(self, number: int, box: Box) -> None:
        """Write one block of a coarse level from the level below."""
        below, here = self.levels[number - 1], self.levels[number]
        steps = [h // b for h, b in zip(here.factors, below.factors, strict=True)]
        region = tuple(
            slice(a * s, min((b - 1) * s + 1, n))
            for a, b, s, n in zip(box.start, box.stop, steps, below.shape, strict=True)
        )
        with write_errors(self.path):
            read = self._array(number - 1)[region].read().result()
        values = read[tuple(slice(None, None, s) for s in steps)]
        if values.any():
            writing = self._array(number)[box.slices].write(np.ascontiguousarray(values))
            Pending(self.path, [writing]).result()

    def _array(self, number: int) -> ts.TensorStore:
        with write_errors(self.path):
            return _handle(self.path / str(number), self.version, self.opening)

    # ------------------------------------------------------------------ the end
    def finish(self, more: dict[str, Any]) -> None:
        """Add attributes (provenance) to the group. Call it after all writes."""
        with writing_to(self.path.parent):
            update_attributes(self.path, plain_text(more))


# -------------------------------------------------------------------------------------------------------------- levels
def _is_tile_level(grid: TileGrid, level: Level) -> bool:
    """Whether each tile can write its share of a level in blocks of its own."""
    if all(f == 1 for f in level.factors):
        return True
    return all(
        f == 1 or (t % f == 0 and t // f >= SHARE) or (n == 1)
        for t, f, n in zip(grid.tile_shape, level.factors, grid.grid_shape, strict=True)
    )


def _block(grid: TileGrid, level: Level) -> tuple[int, ...]:
    """Return the block of a level that one writer owns: the share of a tile, or about as many voxels as a tile."""
    if _is_tile_level(grid, level):
        return tuple(-(-t // f) for t, f in zip(grid.tile_shape, level.factors, strict=True))
    spatial = sum(n > 1 for n in level.shape[grid.separate_axes :])
    side = {0: 1, 1: 2**18, 2: 1024}.get(spatial, 128)
    return tuple(
        1 if axis < grid.separate_axes else min(side, n) if n < side else side for axis, n in enumerate(level.shape)
    )


def _reduced(box: Box, factors: Sequence[int]) -> Box:
    return Box(
        tuple(-(-a // f) for a, f in zip(box.start, factors, strict=True)),
        tuple(-(-b // f) for b, f in zip(box.stop, factors, strict=True)),
    )


def array_options(block: tuple[int, ...], version: str, axes: Sequence[str]) -> dict[str, Any]:
    """Return the options of `zarr.create_array` that depend on the version of OME-Zarr."""
    from zarr.codecs import ZstdCodec

    chunks = browse_chunk(block)
    if version == "0.5":
        names, codec = list(axes), ZstdCodec(level=1)
        return {"zarr_format": 3, "chunks": chunks, "shards": block, "compressors": codec, "dimension_names": names}
    keys = {"name": "v2", "separator": "/"}
    return {
        "zarr_format": 2,
        "chunks": chunks,
        "compressors": {"id": "zstd", "level": 1},
        "chunk_key_encoding": keys,
    }


@functools.lru_cache(maxsize=32)
def _handle(path: Path, version: str, opening: str) -> ts.TensorStore:
    import tensorstore as ts

    metadata = path / ("zarr.json" if version == "0.5" else ".zarray")
    spec = {
        "driver": "zarr3" if version == "0.5" else "zarr",
        "kvstore": {"driver": "file", "path": tensorstore_path(path), "file_io_sync": syncs(metadata)},
    }
    return ts.open(spec, open=True).result()
