"""Synthetic images of nuclei of any size, computed when they are read. Each read returns the same pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import dask.array as da

__all__ = ["SyntheticNuclei", "as_dask", "nuclei_levels", "nuclei_pyramid"]

BACKGROUND, NOISE = 200, 64
"""Gray value between nuclei, and range of the noise that is added."""


class SyntheticNuclei:
    """Image with one nucleus in each cell of a lattice. Place, size and brightness depend on the cell alone.

    Parameters
    ----------
    shape : sequence of int
        Shape at full resolution, 2 or 3 axes.
    pitch : int, default 24
        Size of a lattice cell in voxels.
    step : int, default 1
        Downsampling factor, for levels of a pyramid.

    Notes
    -----
    Has what numpy and dask need of an array: ``shape``, ``dtype``, ``ndim`` and slices of step 1. Values are uint16.
    """

    dtype = np.dtype(np.uint16)

    def __init__(self, shape: Sequence[int], pitch: int = 24, step: int = 1) -> None:
        self._full, self._pitch, self._step = tuple(shape), pitch, step
        self.shape = tuple(-(-n // step) for n in self._full)
        self.ndim = len(self.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        entries = index if isinstance(index, tuple) else (index,)
        entries = entries + (slice(None),) * (self.ndim - len(entries))
        axes, after = [], []
        for entry, n in zip(entries, self.shape, strict=True):
            whole = range(n)[entry] if isinstance(entry, slice) else range(n)[int(entry) : int(entry) + 1]
            axes.append(np.arange(whole.start, whole.stop, whole.step) * self._step)
            after.append(slice(None) if isinstance(entry, slice) else 0)
        return self._draw(axes)[tuple(after)]

    def _draw(self, axes: list[np.ndarray]) -> np.ndarray:
        image = BACKGROUND + _noise(axes)
        if image.size:
            # Coarse levels are for display: fast, and slightly different from the finest level.
            (self._add_to_voxels if self._step * 10 >= self._pitch else self._add_nuclei)(image, axes)
        return image.astype(np.uint16)

    def _add_nuclei(self, image: np.ndarray, axes: list[np.ndarray]) -> None:
        """Draw each nucleus into the voxels around it."""
        spans = [range(int(a[0]) // self._pitch - 1, int(a[-1]) // self._pitch + 2) for a in axes]
        cells = np.stack([g.ravel() for g in np.meshgrid(*spans, indexing="ij")])
        centers, radii, heights = self._nuclei(cells)
        reach = 1.5 * radii
        starts = [np.searchsorted(a, c - reach) for a, c in zip(axes, centers, strict=True)]
        stops = [np.searchsorted(a, c + reach) for a, c in zip(axes, centers, strict=True)]
        for i in np.flatnonzero(np.all([b > a for a, b in zip(starts, stops, strict=True)], axis=0)):
            box = tuple(slice(a[i], b[i]) for a, b in zip(starts, stops, strict=True))
            distance: Any = 0.0
            for axis, (a, span) in enumerate(zip(axes, box, strict=True)):
                along = ((a[span] - centers[axis][i]) / radii[i]).astype(np.float32) ** 2
                distance = distance + along.reshape([-1 if k == axis else 1 for k in range(len(axes))])
            image[box] += _profile(distance, heights[i])

    def _add_to_voxels(self, image: np.ndarray, axes: list[np.ndarray]) -> None:
        """Draw the nucleus of each voxel's own cell, and ignore nuclei of neighboring cells."""
        places = np.meshgrid(*axes, indexing="ij", sparse=True)
        # Numbers of a nucleus are computed once per cell, not per voxel.
        cells, at = zip(*(np.unique(a // self._pitch, return_inverse=True) for a in axes), strict=True)
        centers, radii, heights = self._nuclei(np.stack(np.meshgrid(*cells, indexing="ij")))
        own = np.ix_(*at)
        per_radius = (1 / radii).astype(np.float32)[own]
        distance: Any = np.float32(0)
        for place, center in zip(places, centers, strict=True):
            distance = distance + ((place - center[own]).astype(np.float32) * per_radius) ** 2
        image += _profile(distance, heights.astype(np.float32)[own])

    def _nuclei(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return centers (axis first), radii and heights of the nuclei of some cells (axis first)."""
        random = _hashes(cells, self.ndim + 2)
        centers = (cells + 0.3 + 0.4 * random[: self.ndim]) * self._pitch
        return centers, self._pitch * (0.26 + 0.12 * random[-2]), 600 + 1800 * random[-1]


def _profile(distance: np.ndarray, height: Any) -> np.ndarray:
    """Return the brightness at a squared distance from the center: flat inside, with a soft edge."""
    return np.asarray(height / (1 + np.exp(np.minimum((distance - 1) * 10, 80))), np.float32)


def _hashes(cells: np.ndarray, count: int) -> np.ndarray:
    """Return `count` numbers in [0, 1) that depend on each cell: ``(count, ...)`` for cells of ``(axis, ...)``."""
    state = np.full(cells.shape[1:], 0x9E3779B97F4A7C15, np.uint64)
    for values in cells:
        state = _mix(state ^ values.astype(np.int64).view(np.uint64))
    found = np.empty((count, *state.shape))
    for i in range(count):
        state = _mix(state)
        found[i] = (state >> np.uint64(40)) / 2**24
    return found


def _mix(x: np.ndarray) -> np.ndarray:
    """Apply one step of splitmix64 (Steele, Lea, Flood 2014, OOPSLA, doi:10.1145/2660193.2660195)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def _noise(axes: list[np.ndarray]) -> np.ndarray:
    """Return noise that depends on the place of each voxel: float32, 0 to NOISE."""
    state: Any = np.zeros((1,) * len(axes), np.uint32)
    for axis, (a, prime) in enumerate(zip(axes, (73856093, 19349663, 83492791), strict=False)):
        term = (
            (a.astype(np.uint64) * prime).astype(np.uint32).reshape([-1 if k == axis else 1 for k in range(len(axes))])
        )
        state = (state ^ term) * np.uint32(2654435761)
    return np.asarray((state >> np.uint32(24)) * np.float32(NOISE / 256), np.float32)


def nuclei_levels(
    shape: Sequence[int], pitch: int = 24, chunks: int | Sequence[int] = 256, coarsest: int = 2**22
) -> list[da.Array]:
    """Return a pyramid of `SyntheticNuclei` as lazy dask arrays, the finest level first.

    Parameters
    ----------
    shape, pitch
        See `SyntheticNuclei`.
    chunks : int or sequence of int
        Chunks of each level.
    coarsest : int
        Levels are added until one has this many voxels or fewer.
    """
    return [as_dask(image, chunks) for image in nuclei_pyramid(shape, pitch, coarsest)]


def as_dask(image: SyntheticNuclei, chunks: int | Sequence[int]) -> da.Array:
    """Return an image as a lazy dask array."""
    import dask.array as da

    array: da.Array = da.from_array(image, chunks=chunks, asarray=False, inline_array=True, name=False)
    return array


def nuclei_pyramid(shape: Sequence[int], pitch: int = 24, coarsest: int = 2**22) -> list[SyntheticNuclei]:
    """Return the levels of a pyramid, the finest level first; see `nuclei_levels`."""
    levels = [SyntheticNuclei(shape, pitch)]
    while math.prod(levels[-1].shape) > coarsest:
        levels.append(SyntheticNuclei(shape, pitch, 2 ** len(levels)))
    return levels
