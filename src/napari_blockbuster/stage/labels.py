"""Labels of one tile: checks, and ids 1..n for the objects in the core."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box, Tile, TileGrid

__all__ = ["OBJECT", "Compacted", "LabelsError", "compact", "lookup", "run_lengths"]

OBJECT = np.dtype([("core", "<u4"), ("read", "<u4"), ("cut", "?"), ("edge", "?")])
"""Record of an object: its voxels in the core and in the read box, whether a border of the read box inside the image cuts it
(its size is then unreliable), and whether its part in the core touches the edge of the image."""


class LabelsError(ValueError):
    """A model did not return a label image of its tile."""


@dataclass(frozen=True)
class Compacted:
    """Labels of one tile, with ids 1..n for the objects that have a voxel in the core.

    Attributes
    ----------
    labels : numpy.ndarray
        uint32, the core's shape (time axes included).
    objects : numpy.ndarray
        One `OBJECT` for each id from 1.
    typical_size, n_whole : float, int
        Median voxels of the objects of the read box that are not cut, and the number of these objects.
    """

    labels: np.ndarray
    objects: np.ndarray
    typical_size: float
    n_whole: int
    _full: np.ndarray
    _renumber: _Renumber

    def region(self, index: tuple[slice, ...]) -> np.ndarray:
        """Return part of the read box in the new ids. Objects that lie in the halo alone become background."""
        return self._renumber(self._full[index])


class _Renumber:
    """Map old ids to 1..n: with a table if the ids are small, with a search if they are sparse."""

    def __init__(self, ids: np.ndarray, highest: int, table_limit: int) -> None:
        self._ids = ids
        self._table: np.ndarray | None = None
        if highest < table_limit:
            self._table = np.zeros(highest + 1, np.uint32)
            self._table[ids] = np.arange(1, len(ids) + 1, dtype=np.uint32)

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        if self._table is not None:
            return lookup(self._table, labels.astype(np.uint32, order="C"))
        if not len(self._ids):
            return np.zeros(labels.shape, np.uint32)
        place = np.searchsorted(self._ids, labels)
        place[place == len(self._ids)] = 0
        return np.where(self._ids[place] == labels, place + 1, 0).astype(np.uint32)


def lookup(table: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return ``table[labels]``. A writeable uint32 array is relabeled in place if the table is uint32 as well.

    Every label must have an entry. This is checked when labels are staged, not here.
    """
    if labels.dtype == table.dtype == np.uint32 and labels.flags.c_contiguous and labels.flags.writeable:
        import fastremap

        # One pass without a second buffer takes half the time of numpy.take, which also builds an index of int64.
        fastremap.remap_from_array(labels.reshape(-1), table, in_place=True)
        return labels
    return np.take(table, labels)


def run_lengths(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels and lengths of the runs of equal voxels in memory: a tenth of the voxels, or fewer."""
    ids, lengths = [], []
    for slab in _slabs(labels.shape):
        flat = np.ascontiguousarray(labels[slab]).reshape(-1)
        ends = np.flatnonzero(flat[1:] != flat[:-1])
        bounds = np.empty(len(ends) + 2, np.int64)
        bounds[0], bounds[-1] = -1, flat.size - 1
        bounds[1:-1] = ends
        ids.append(flat[bounds[1:]])
        lengths.append(bounds[1:] - bounds[:-1])
    return np.concatenate(ids), np.concatenate(lengths)


def _slabs(shape: tuple[int, ...], voxels: int = 1 << 16) -> list[slice]:
    """Return slabs along the first axis of about this many voxels each."""
    step = max(1, voxels * shape[0] // max(1, math.prod(shape)))
    return [slice(start, start + step) for start in range(0, shape[0], step)]


def compact(labels: Any, tile: Tile, grid: TileGrid, name: str) -> Compacted:
    """Check the labels that a model returned for a tile, and number them from 1.

    Parameters
    ----------
    labels : array_like
        Labels of the spatial axes of the read box: integers >= 0 (also as whole-numbered floats), or a bool mask, whose
        connected components (faces touching) become the labels.
    tile : Tile
    grid : TileGrid
    name : str
        Name of the model in error messages.

    Raises
    ------
    LabelsError
        If these are no labels of the tile. The message names the tile, its place and the model.
    """
    separate_axes, whole_image = grid.separate_axes, grid.shape
    array = _as_integers(np.asarray(labels), tile.read.shape[separate_axes:], tile, name)
    full = array.reshape((1,) * separate_axes + array.shape)
    highest = _check_range(full, tile, name)
    core = full[tile.trim]
    core_runs = run_lengths(core)
    runs = [core_runs, *(run_lengths(full[slab]) for slab in _around(full.shape, tile.trim))]
    ids, read_sizes = _sizes([i for i, _ in runs], [n for _, n in runs], highest)
    core_ids, core_sizes = _sizes([core_runs[0]], [core_runs[1]], highest)
    cut = _at_borders(ids, highest, full, tile.read, whole_image, separate_axes, of_image=False)
    whole = read_sizes[~cut]
    written = np.searchsorted(ids, core_ids)
    objects = np.zeros(len(core_ids), OBJECT)
    objects["core"], objects["read"], objects["cut"] = core_sizes, read_sizes[written], cut[written]
    objects["edge"] = _at_borders(core_ids, highest, core, tile.core, whole_image, separate_axes, of_image=True)
    # Beyond this range a look-up table would be larger than the tile.
    renumber = _Renumber(core_ids, highest, table_limit=max(4 * full.size, 1 << 16))
    typical = float(np.median(whole)) if len(whole) else 0.0
    return Compacted(renumber(core), objects, typical, len(whole), full, renumber)


def _around(shape: tuple[int, ...], core: tuple[slice, ...]) -> list[tuple[slice, ...]]:
    """Return the slabs around the core, without overlap: axis by axis, within the extent that earlier axes left."""
    slabs = []
    left = [slice(0, n) for n in shape]
    for axis, (inner, n) in enumerate(zip(core, shape, strict=True)):
        for outer in (slice(0, inner.start), slice(inner.stop, n)):
            if outer.start < outer.stop:
                slabs.append((*left[:axis], outer, *left[axis + 1 :]))
        left[axis] = inner
    return slabs


def _sizes(ids: list[np.ndarray], lengths: list[np.ndarray], highest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels except background, in ascending order, and their voxels, from run lengths."""
    run_ids, run_voxels = np.concatenate(ids), np.concatenate(lengths)
    if highest < max(4 * len(run_ids), 1 << 20):
        counts = np.bincount(run_ids.astype(np.int64, copy=False), weights=run_voxels)
        found = np.flatnonzero(counts)
        sizes = counts[found]
    else:
        found, inverse = np.unique(run_ids, return_inverse=True)
        sizes = np.bincount(inverse, weights=run_voxels)
    foreground = found != 0
    return found[foreground], sizes[foreground].astype(np.int64)


def _at_borders(
    ids: np.ndarray,
    highest: int,
    labels: np.ndarray,
    box: Box,
    image_shape: tuple[int, ...],
    separate_axes: int,
    *,
    of_image: bool,
) -> np.ndarray:
    """Return which labels are at the borders of a box: those that are the image's edge, or those inside the image."""
    planes = []
    for axis in range(separate_axes, labels.ndim):
        for is_edge, place in ((box.start[axis] == 0, 0), (box.stop[axis] == image_shape[axis], -1)):
            if is_edge == of_image:
                # `take` would copy all of a view first.
                planes.append(labels[(slice(None),) * axis + (place,)])
    if highest < max(4 * sum(plane.size for plane in planes), 1 << 16):
        found = np.zeros(highest + 1, bool)
        for plane in planes:
            found[plane] = True
        at_border: np.ndarray = found[ids]
        return at_border
    return np.isin(ids, np.concatenate([np.zeros(0, labels.dtype), *map(np.unique, planes)]))


def _as_integers(array: np.ndarray, shape: tuple[int, ...], tile: Tile, name: str) -> np.ndarray:
    where = f"{tile}: {name} returned"
    if array.shape != shape:
        raise LabelsError(
            f"{where} an array of shape {array.shape} for pixels of shape {shape} (halo included). "
            "It must return one label for each pixel"
        )
    if array.dtype == bool:
        from scipy import ndimage

        return np.asarray(ndimage.label(array)[0])
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind == "f":
        return _whole_numbers(array, where)
    raise LabelsError(f"{where} values of type {array.dtype}. Labels must be integers, 0 for background")


def _whole_numbers(array: np.ndarray, where: str) -> np.ndarray:
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)].ravel()[0]
        raise LabelsError(f"{where} {bad} among its labels. Labels must be finite integers, 0 for background")
    with np.errstate(invalid="ignore"):
        # Beyond int64 the cast gives nonsense, which the comparison below finds.
        whole = array.astype(np.int64)
    if (whole != array).any():
        bad = array[whole != array].ravel()[0]
        raise LabelsError(
            f"{where} the value {bad} among its labels. Labels must be whole numbers. "
            "If this is a probability map, threshold it and label its components first"
        )
    return whole


def _check_range(array: np.ndarray, tile: Tile, name: str) -> int:
    """The highest label; one pass, in which a negative one shows as a huge one."""
    unsigned = array.view(array.dtype.str.replace("i", "u")) if array.dtype.kind == "i" else array
    highest = int(unsigned.max())
    if array.dtype.kind == "i" and highest > np.iinfo(array.dtype).max:
        raise LabelsError(f"{tile}: {name} returned the negative label {array.min()}. Labels must be 0 or more")
    return highest
