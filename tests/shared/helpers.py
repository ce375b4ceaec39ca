"""What several tests share: staging without a job, and comparing label images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from napari_blockbuster.geometry.tiles import Tile, TileGrid
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.merge.numbering import merge_labels
from napari_blockbuster.stage.seams.evidence import close_seams, gather_evidence
from napari_blockbuster.stage.staging import stage_labels
from napari_blockbuster.stage.store import StageStore
from napari_blockbuster.stage.tables.label_table import LabelTableCache


def stage_all(
    folder: Path,
    grid: TileGrid,
    pixels: np.ndarray,
    segmenter: Callable[[np.ndarray], np.ndarray],
    order: Iterable[int] | None = None,
) -> StageStore:
    """Stage every tile of an array in this process."""
    return stage_tiles(folder, grid, lambda tile: pixels[tile.read.slices], lambda tile, x: segmenter(x), order)


def stage_tiles(
    folder: Path,
    grid: TileGrid,
    read: Callable[[Tile], np.ndarray],
    segmenter: Callable[[Tile, np.ndarray], np.ndarray],
    order: Iterable[int] | None = None,
) -> StageStore:
    """Stage every tile; the segmenter is told which tile it sees."""
    store = StageStore.create(folder, grid)
    for index in grid.order() if order is None else order:
        tile = grid[index]
        pixels = read(tile)
        staging = stage_labels(store, tile, segmenter(tile, pixels.reshape(pixels.shape[grid.separate_axes :])))
        staging.finish()
        close_seams(store, index, staging.bands)
    return store


def merge_store(store: StageStore, **options: object) -> Merge:
    """Merge all staged tiles."""
    staged = store.indices("tiles")
    return merge_labels(gather_evidence(store, staged), LabelTableCache(store).table(staged), **options)


def assemble(store: StageStore, merged: Merge) -> np.ndarray:
    """The merged labels as one array."""
    whole = np.zeros(store.grid.shape, merged.new_ids.dtype)
    for tile in store.grid:
        whole[tile.core.slices] = merged.table(tile.index)[store.read_labels(tile).result()]
    return whole


def assert_same_objects(a: np.ndarray, b: np.ndarray) -> None:
    """Two label images show the same objects, whatever their numbers."""
    np.testing.assert_array_equal(a > 0, b > 0)
    pairs = np.unique(np.stack([a[a > 0], b[a > 0]]).astype(np.int64), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1], "objects were fused or split"


def filtered(labels: np.ndarray, keep: ObjectFilter, frames: int = 0) -> np.ndarray:
    """The same filter on an array that fits into memory."""
    sizes = np.bincount(labels.ravel())
    gone = np.zeros(len(sizes), bool)
    if keep.min_size is not None:
        gone |= sizes < keep.min_size
    if keep.max_size is not None:
        gone |= sizes > keep.max_size
    if keep.drop_border:
        for axis in range(frames, labels.ndim):
            for place in (0, -1):
                gone[np.unique(labels.take(place, axis))] = True
    gone[0] = False
    return np.where(gone[labels], 0, labels)
