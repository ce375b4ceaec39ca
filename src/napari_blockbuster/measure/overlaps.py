"""Count the voxels that each pair of labels of two label images shares, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.execution.work import Work
from napari_blockbuster.geometry.chunks import finest_block
from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import ImageSource

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["OVERLAP", "count_overlaps", "overlaps", "pair_grid"]

OVERLAP = np.dtype([("parent", "<u8"), ("child", "<u8"), ("voxels", "<i8")])
"""Voxels with one label in the first image and one in the second; 0 is background."""
USUAL, MOST = 2**23, 2**25
"""Voxels of a tile: two label images and their runs are in memory at a time."""


def pair_grid(source: ImageSource) -> TileGrid:
    """Return the tiles in which two label images are read together: whole chunks of the first where they are small."""
    leading = source.separate_axes
    block = finest_block(source.spatial_shape, source.read_chunks[leading:], 64, USUAL, MOST)
    tile = (1,) * leading + tuple(min(b, n) for b, n in zip(block, source.spatial_shape, strict=True))
    return TileGrid(source.shape, tile, separate_axes=leading)


def overlaps(parents: np.ndarray, children: np.ndarray) -> np.ndarray:
    """Return one `OVERLAP` for each pair of labels that share a voxel, except the background of both.

    Parameters
    ----------
    parents, children : numpy.ndarray
        Labels of equal shape: integers, 0 for background.

    Raises
    ------
    ValueError
        For a negative label.
    """
    first, second = (np.ascontiguousarray(labels).reshape(-1) for labels in (parents, children))
    for labels in (first, second):
        if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
            raise ValueError(f"The label {labels.min()} is negative. Labels must be 0 (background) or more.")
    if not first.size:
        return np.zeros(0, OVERLAP)
    ends = np.flatnonzero((first[1:] != first[:-1]) | (second[1:] != second[:-1]))
    bounds = np.concatenate([[-1], ends, [first.size - 1]])
    runs = np.empty(len(bounds) - 1, OVERLAP)
    runs["parent"], runs["child"] = first[bounds[1:]], second[bounds[1:]]
    runs["voxels"] = np.diff(bounds)
    return _summed(runs[(runs["parent"] != 0) | (runs["child"] != 0)])


def _summed(rows: np.ndarray) -> np.ndarray:
    """Add up the rows of each pair; sorted by parent, then child."""
    rows = rows[np.lexsort((rows["child"], rows["parent"]))]
    if not len(rows):
        return rows
    changes = (np.diff(rows["parent"]) != 0) | (np.diff(rows["child"]) != 0)
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    summed: np.ndarray = rows[starts]
    summed["voxels"] = np.add.reduceat(rows["voxels"], starts)
    return summed


@dataclass
class OverlapWork(Work[np.ndarray]):
    """Count the overlaps in tiles of two label images. Sources that workers cannot open are sent as pixels."""

    grid: TileGrid
    sources: Sequence[ImageSource]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"sources": [source if source.shippable else None for source in self.sources]}

    def ahead(self, item: int) -> list[Callable[[], np.ndarray]]:
        return [source.prefetch(self.grid[item].core).result for source in self.sources]

    def ship(self, item: int) -> list[Callable[[], np.ndarray] | None]:
        box = self.grid[item].core
        return [None if source.shippable else source.part(box).read for source in self.sources]

    def prepare(self, item: int, payload: Sequence[Callable[[], np.ndarray] | None]) -> list[np.ndarray]:
        box = self.grid[item].core
        return [
            source.read(box) if read is None else read() for source, read in zip(self.sources, payload, strict=True)
        ]

    def __call__(self, item: int, prepared: list[np.ndarray]) -> Callable[[], np.ndarray]:
        found = overlaps(*prepared)
        return lambda: found

    def lost(self, item: int, error: BaseException) -> np.ndarray:
        raise error


@dataclass
class _Sums:
    """Overlaps of all tiles, added up whenever they have doubled, so that memory follows the pairs and not the tiles."""

    parts: list[np.ndarray] = field(default_factory=list)
    waiting: int = 0
    summed: int = 0

    def add(self, rows: np.ndarray) -> None:
        self.parts.append(rows)
        self.waiting += len(rows)
        if self.waiting > self.summed + 2**20:
            self.total()

    def total(self) -> np.ndarray:
        rows = _summed(np.concatenate([np.zeros(0, OVERLAP), *self.parts]))
        self.parts, self.waiting, self.summed = [rows], 0, len(rows)
        return rows


def count_overlaps(
    parents: ImageSource,
    children: ImageSource,
    client: Client | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Return one `OVERLAP` for each pair of labels that share a voxel of two label images.

    Parameters
    ----------
    parents, children : ImageSource
        Of equal shape.
    client : distributed.Client, optional
    progress : callable, optional
        Called with the tiles done and the number of tiles.
    """
    grid = pair_grid(parents)
    sums, done = _Sums(), 0
    for rows in run(OverlapWork(grid, (parents, children)), TileQueue(range(len(grid))), client):
        if rows is None:
            continue
        sums.add(rows)
        done += 1
        if progress is not None:
            progress(done, len(grid))
    return sums.total()
