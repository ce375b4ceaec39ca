"""How much of each tile a region of interest covers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from napari_blockbuster.geometry.tiles import TileGrid

__all__ = ["Coverage", "core_edges", "outer", "over_ranges"]


class Coverage(IntEnum):
    """How much of a tile's core lies in a region of interest."""

    NONE = 0
    SOME = 1
    ALL = 2


def core_edges(grid: TileGrid, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and the stops of the cores along an axis, in voxels."""
    starts = np.arange(grid.grid_shape[axis], dtype=np.int64) * grid.tile_shape[axis]
    return starts, np.minimum(starts + grid.tile_shape[axis], grid.shape[axis])


def outer(tables: Sequence[np.ndarray]) -> np.ndarray:
    """Combine one bool table per axis into an array that is True where all of them are."""
    # Not np.ix_, which turns tables of bool into indices.
    along = (table.reshape([-1 if a == axis else 1 for a in range(len(tables))]) for axis, table in enumerate(tables))
    return functools.reduce(np.logical_and, along)


def over_ranges(reduce: np.ufunc, values: np.ndarray, ranges: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Combine an array over blocks.

    Parameters
    ----------
    reduce : numpy.ufunc
        Such as `numpy.logical_or`.
    values : numpy.ndarray
    ranges : sequence of (numpy.ndarray, numpy.ndarray)
        For each axis, the first index and the last index of each block. Blocks may overlap, and both must ascend.

    Returns
    -------
    numpy.ndarray
        One value per block, with as many along each axis as there are ranges.
    """
    for axis, (first, last) in enumerate(ranges):
        # An index behind the end must exist: the stretch from a block to the next one is computed too, and dropped.
        padded = np.concatenate([values, values.take([-1], axis)], axis)
        edges = np.stack([first, last + 1], axis=1).ravel()
        values = reduce.reduceat(padded, edges, axis)[(slice(None),) * axis + (slice(None, None, 2),)]
    return values
