"""Checking and compacting what a model returned: a label image with ids 1..n of the objects in the core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .tiling import Tile

__all__ = ["Compacted", "LabelsError", "compact"]


class LabelsError(ValueError):
    """A model returned something that is not a label image of its tile."""


@dataclass(frozen=True)
class Compacted:
    """Labels of one tile, with ids 1..n for the objects that have a voxel in the core.

    Attributes
    ----------
    labels : numpy.ndarray
        uint32, the core's shape (time axes included).
    sizes : numpy.ndarray
        uint32, voxels of each object in the core.
    """

    labels: np.ndarray
    sizes: np.ndarray
    _full: np.ndarray
    _renumber: _Renumber

    def region(self, index: tuple[slice, ...]) -> np.ndarray:
        """Part of the read box in the compacted ids; objects that live in the halo alone become background."""
        return self._renumber(self._full[index])


class _Renumber:
    """Old ids to 1..n: by direct look-up where ids are small, by search where they are sparse."""

    def __init__(self, ids: np.ndarray, highest: int, lowest_range: int) -> None:
        self._ids = ids
        self._table: np.ndarray | None = None
        if highest < lowest_range:
            self._table = np.zeros(highest + 1, np.uint32)
            self._table[ids] = np.arange(1, len(ids) + 1, dtype=np.uint32)

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        if self._table is not None:
            return np.take(self._table, labels)
        place = np.searchsorted(self._ids, labels)
        place[place == len(self._ids)] = 0
        found = self._ids[place] == labels if len(self._ids) else np.zeros(labels.shape, bool)
        return np.where(found, place + 1, 0).astype(np.uint32)


def compact(labels: Any, shape: tuple[int, ...], tile: Tile, separate_axes: int, name: str) -> Compacted:
    """Check a model's answer and renumber it.

    Parameters
    ----------
    labels : array_like
        What the model returned for the read box: integers >= 0 (also as whole-numbered floats), or a bool mask, which is
        cut into its connected components (faces touching).
    shape : tuple of int
        Shape of the pixels that the model was given.
    tile : Tile
    separate_axes : int
        Leading axes of the tile (time) that the model did not see.
    name : str
        What the error calls the model.

    Raises
    ------
    LabelsError
        Naming the tile, its place, the model, and what is wrong.
    """
    array = _as_integers(np.asarray(labels), shape, tile, name)
    full = array.reshape((1,) * separate_axes + array.shape)
    core = full[tile.trim]
    # Outside this range a look-up table would outweigh the tile itself.
    table_limit = max(4 * full.size, 1 << 16)
    # The halo may hold higher ids than the core, and a negative id there is as wrong as in the core.
    highest = _check_range(full, tile, name)
    if highest < table_limit:
        counts = np.bincount(core.ravel(), minlength=1)
        counts[0] = 0
        ids = np.flatnonzero(counts)
        sizes = counts[ids]
    else:
        ids, sizes = np.unique(core, return_counts=True)
        ids, sizes = ids[ids != 0], sizes[ids != 0]
    renumber = _Renumber(ids, highest, table_limit)
    return Compacted(renumber(core), sizes.astype(np.uint32), full, renumber)


def _as_integers(array: np.ndarray, shape: tuple[int, ...], tile: Tile, name: str) -> np.ndarray:
    where = f"{tile}: {name} returned"
    if array.shape != shape:
        raise LabelsError(
            f"{where} an array of shape {array.shape} for pixels of shape {shape} (halo included); "
            "it must return one label for each pixel"
        )
    if array.dtype == bool:
        from scipy import ndimage

        return np.asarray(ndimage.label(array)[0])
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind == "f":
        return _whole_numbers(array, where)
    raise LabelsError(f"{where} values of type {array.dtype}; labels must be integers, 0 for background")


def _whole_numbers(array: np.ndarray, where: str) -> np.ndarray:
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)].ravel()[0]
        raise LabelsError(f"{where} {bad} among its labels; labels must be finite integers, 0 for background")
    with np.errstate(invalid="ignore"):
        # Beyond int64 the cast gives nonsense, which the comparison below finds.
        whole = array.astype(np.int64)
    if (whole != array).any():
        bad = array[whole != array].ravel()[0]
        raise LabelsError(
            f"{where} the value {bad} among its labels; labels must be whole numbers. "
            "If this is a probability map, threshold it and label its components first"
        )
    return whole


def _check_range(array: np.ndarray, tile: Tile, name: str) -> int:
    if array.dtype.kind == "i" and (lowest := int(array.min())) < 0:
        raise LabelsError(f"{tile}: {name} returned the negative label {lowest}; labels must be 0 or more")
    return int(array.max())
