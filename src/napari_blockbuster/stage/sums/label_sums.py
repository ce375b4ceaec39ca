"""Sums over the voxels of each staged label. They are additive: an object is the sum of its labels, whatever the merge.

Places are counted from the first voxel of the tile's core, so that no digit is lost far from the origin of the image.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from napari_blockbuster.stage import label_pairs

__all__ = ["CONTACT", "INTENSITY", "PLACE", "PlaceRows", "TileSums", "place_rows", "tile_sums"]

CONTACT = np.dtype([("low", "<u4"), ("high", "<u4"), ("faces", "<u4", (3,))])
"""Two labels of one tile that touch, ``low < high``, and the number of voxel faces between them along z, y, x."""
PLACE = np.dtype("<i8")
INTENSITY = np.dtype("<f8")


class PlaceRows(NamedTuple):
    """Rows of `TileSums.place`, for some number of spatial axes.

    Attributes
    ----------
    low, high : slice
        Lowest and highest coordinate along each axis; the highest is included.
    first : slice
        Sum of the coordinates along each axis.
    second : slice
        Sum of the products of two coordinates, in the order of ``numpy.triu_indices``.
    faces : slice
        Voxel faces along each axis whose other side is not the same label of the same tile.
    """

    low: slice
    high: slice
    first: slice
    second: slice
    faces: slice


def place_rows(ndim: int) -> PlaceRows:
    """Return the rows of `TileSums.place` for a number of spatial axes. Row 0 is the number of voxels."""
    lengths = (ndim, ndim, ndim, ndim * (ndim + 1) // 2, ndim)
    starts = np.cumsum([1, *lengths])
    return PlaceRows(*(slice(a, b) for a, b in itertools.pairwise(starts.tolist())))


COUNT, SUM, SQUARES, LOWEST, HIGHEST, WEIGHTED = range(6)
"""Rows of `TileSums.intensity`; one `WEIGHTED` row follows for each axis."""


@dataclass(frozen=True)
class TileSums:
    """The sums of all labels of one tile, or of several tiles one after the other.

    Attributes
    ----------
    place : numpy.ndarray
        int64, (rows, labels); see `place_rows`.
    intensity : numpy.ndarray
        float64, (channels, 5 + ndim, labels): number of finite pixels, their sum, the sum of the squares of their
        differences from the mean, minimum, maximum, and the sums of pixel times coordinate along each axis. Pixels that are
        not finite do not count.
    contacts : numpy.ndarray
        `CONTACT` rows.
    """

    place: np.ndarray
    intensity: np.ndarray
    contacts: np.ndarray

    def parts(self) -> dict[str, np.ndarray]:
        """Return the arrays to store in the file of a tile; empty without labels."""
        if not self.place.shape[1]:
            return {}
        parts = {"sums": self.place}
        if len(self.intensity):
            parts["intensity"] = self.intensity
        if len(self.contacts):
            parts["contacts"] = self.contacts
        return parts

    @classmethod
    def empty(cls, ndim: int, channels: int = 0) -> Self:
        """Return the sums of a tile without labels."""
        rows = place_rows(ndim).faces.stop
        return cls(
            np.zeros((rows, 0), PLACE), np.zeros((channels, WEIGHTED + ndim, 0), INTENSITY), np.zeros(0, CONTACT)
        )


def tile_sums(labels: np.ndarray, n: int, pixels: np.ndarray | None = None) -> TileSums:
    """Sum the labels of a tile.

    Parameters
    ----------
    labels : numpy.ndarray
        uint32 over one to three spatial axes, from 0 to `n`.
    n : int
        Number of labels.
    pixels : numpy.ndarray, optional
        Pixels of the same shape, any real dtype. Several channels are the last axis.

    Returns
    -------
    TileSums
        Uses loops compiled by numba. They are compiled once for each dtype and cached on disk.
    """
    ndim = labels.ndim
    channels = 0 if pixels is None else pixels.shape[-1] if pixels.ndim > ndim else 1
    if not n:
        return TileSums.empty(ndim, channels)
    from . import kernels as sum_kernels

    volume = np.ascontiguousarray(labels, np.uint32).reshape((1,) * (3 - ndim) + labels.shape)
    runs, starts = sum_kernels.find_runs(volume)
    place, sums = sum_kernels.empty_places(n), sum_kernels.empty_intensities(n, channels)
    keys, counts = sum_kernels.sum_places(volume.shape[1], runs, starts, place)
    if pixels is not None and channels:
        values = _native(pixels).reshape((*volume.shape, channels))
        add_pixels = sum_kernels.sum_whole_numbers if values.dtype.kind == "u" else sum_kernels.sum_floats
        add_pixels(runs, starts, values, sums)
    intensity = _intensity_rows(sums[1:], ndim)
    return TileSums(_without_axes(place[1:], ndim), intensity, _contacts(keys, counts))


def _native(pixels: np.ndarray) -> np.ndarray:
    """Return pixels as one of few dtypes, without loss, so that few versions of the loop are compiled."""
    if pixels.dtype in (np.uint8, np.uint16, np.float32, np.float64):
        return np.ascontiguousarray(pixels)
    small = pixels.dtype.itemsize <= 2
    return np.ascontiguousarray(pixels, np.float32 if small else np.float64)


def _without_axes(place: np.ndarray, ndim: int) -> np.ndarray:
    """Return the columns of the axes that exist, as rows."""
    first = 3 - ndim
    axes = list(range(first, 3))
    low, high = np.triu_indices(3)
    second = [10 + k for k in range(6) if low[k] >= first and high[k] >= first]
    chosen = [
        0,
        *(1 + a for a in axes),
        *(4 + a for a in axes),
        *(7 + a for a in axes),
        *second,
        *(16 + a for a in axes),
    ]
    return np.ascontiguousarray(place[:, chosen].T, PLACE)


def _intensity_rows(sums: np.ndarray, ndim: int) -> np.ndarray:
    """Return the sums of `sum_kernels.intensities` in the form of `TileSums.intensity`."""
    count, shift, total, squares, lowest, highest = (sums[..., k] for k in range(6))
    some = count > 0
    about_mean = squares - np.divide(total * total, count, out=np.zeros_like(total), where=some)
    rows: Sequence[np.ndarray] = (
        count,
        total + count * shift,
        # Rounding must not make it negative.
        np.maximum(about_mean, 0),
        lowest,
        highest,
        *(sums[..., 9 - ndim + axis] for axis in range(ndim)),
    )
    return np.ascontiguousarray(np.stack([row.T for row in rows], axis=1), INTENSITY)


def _contacts(keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
    found = np.flatnonzero(keys)
    found = found[np.argsort(keys[found])]
    contacts = np.zeros(len(found), CONTACT)
    contacts["low"], contacts["high"] = label_pairs.unpack(keys[found])
    contacts["faces"] = counts[found]
    return contacts
