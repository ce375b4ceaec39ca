"""Connected regions of a tile, and which of them touch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from napari_blockbuster.geometry.components import connected_components
from napari_blockbuster.stage import label_pairs
from napari_blockbuster.stage.labels import lookup

from .store import NUMBERS, TileRegions

__all__ = ["regions_of", "touching_across"]


def regions_of(labels: np.ndarray, n_labels: int, stamp: int, separate_axes: int = 0) -> tuple[np.ndarray, TileRegions]:
    """Number the regions of a tile, and find which of them touch.

    Parameters
    ----------
    labels : numpy.ndarray
        uint32, ids 1..n of the tile's core.
    n_labels : int
    stamp : int
        See `TileRegions`.
    separate_axes : int, default 0
        Leading axes (time) of extent 1.

    Returns
    -------
    regions : numpy.ndarray
        uint32, like `labels`, with the pieces as n+1 and so on.
    TileRegions

    Notes
    -----
    `scipy.sparse.csgraph.connected_components` joins runs of equal voxels along the last axis, slab by slab, and then the slabs.
    Unlike `scipy.ndimage.label`, this handles labels and background in one pass, and also finds which regions touch.
    """
    spatial = labels.reshape(labels.shape[separate_axes:])
    found = _Slabs(spatial)
    component, n = connected_components(found.n, *found.same.T)
    label_of = np.zeros(n, NUMBERS)
    label_of[component] = found.labels
    number, parents = _numbered(label_of, n_labels)
    table = np.concatenate([[0], number[component]]).astype(NUMBERS)
    regions = lookup(table, found.image)
    sizes = np.bincount(table[1:], weights=found.sizes, minlength=len(number) + 1)[1:].astype(NUMBERS)
    contacts = table[found.touching + 1]
    touching = _pairs_of(contacts.min(axis=1), contacts.max(axis=1))
    faces = _faces_reached(regions, len(number), separate_axes)
    return regions.reshape(labels.shape), TileRegions(stamp, n_labels, parents, sizes, faces, touching)


def touching_across(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the regions that touch across a face, from its two planes: uint32 of shape (n, 2), each pair once."""
    return _pairs_of(*_without_repeats(own, other))


class _Slabs:
    """Connected parts of each slab of an image, and which of them share a face.

    Attributes
    ----------
    image : numpy.ndarray
        uint32, the part of each voxel, from 1.
    labels, sizes : numpy.ndarray
        Label and voxels of each part.
    same, touching : numpy.ndarray
        Pairs of parts, from 0, that share a face: parts of one label (one region), and of two.
    """

    def __init__(self, labels: np.ndarray) -> None:
        self.image = np.empty(labels.shape, np.uint32)
        self.n = 0
        self._labels: list[np.ndarray] = []
        self._sizes: list[np.ndarray] = []
        self._same, self._touching = [np.zeros((0, 2), NUMBERS)], [np.zeros((0, 2), NUMBERS)]
        for slab in _slabs(labels.shape):
            self._add(labels[slab], self.image[slab])
            if slab.start:
                beside = slice(slab.start - 1, slab.start), slice(slab.start, slab.start + 1)
                low, high = _without_repeats(*(self.image[plane] for plane in beside))
                self._relate(low - 1, high - 1)
        self.labels, self.sizes = np.concatenate(self._labels), np.concatenate(self._sizes)
        self.same, self.touching = np.concatenate(self._same), np.concatenate(self._touching)

    def _add(self, labels: np.ndarray, image: np.ndarray) -> None:
        change = np.ones(labels.shape, bool)
        np.not_equal(labels[..., 1:], labels[..., :-1], out=change[..., 1:])
        starts = np.flatnonzero(change)
        run_labels = labels.reshape(-1)[starts]
        runs = (np.cumsum(change, dtype=np.int32) - 1).reshape(labels.shape)
        follows = np.flatnonzero(starts[1:] % labels.shape[-1]) + 1
        pairs = [np.stack([follows - 1, follows], axis=-1)]
        for axis in range(labels.ndim - 1):
            low, high = (runs[(slice(None),) * axis + (cut,)] for cut in (slice(None, -1), slice(1, None)))
            pairs.append(np.stack(_without_repeats(low, high), axis=-1))
        beside = np.concatenate(pairs)
        is_same = run_labels[beside[:, 0]] == run_labels[beside[:, 1]]
        component, n = connected_components(len(starts), *beside[is_same].T)
        own_labels = np.zeros(n, NUMBERS)
        own_labels[component] = run_labels
        self._labels.append(own_labels)
        self._sizes.append(np.bincount(component, np.diff(starts, append=labels.size), n))
        image[...] = (component + self.n + 1).astype(np.uint32)[runs]
        apart = component[beside[~is_same]] + self.n
        self.n += n
        self._touching.append(_pairs_of(apart.min(axis=1), apart.max(axis=1)))

    def _relate(self, low: np.ndarray, high: np.ndarray) -> None:
        pairs = _pairs_of(low, high)
        is_same = np.equal(*self._labels_of(pairs).T)
        self._same.append(pairs[is_same])
        self._touching.append(pairs[~is_same])

    def _labels_of(self, pairs: np.ndarray) -> np.ndarray:
        """Return the labels of parts of the last two slabs."""
        last = np.concatenate(self._labels[-2:])
        return last[pairs - np.uint32(self.n - len(last))]


def _slabs(shape: tuple[int, ...], voxels: int = 1 << 18) -> Iterator[slice]:
    """Return slabs along the first axis of about this many voxels each, few enough to stay in the processor's cache."""
    step = max(1, voxels * shape[0] // math.prod(shape))
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def _numbered(label_of: np.ndarray, n_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the region number of each component: its label for the first component of a label, else a piece."""
    order = np.argsort(label_of, kind="stable")
    ordered = label_of[order]
    is_first = np.diff(ordered, prepend=ordered[:1]) > 0
    is_first[:1] = True
    is_first &= ordered > 0
    number = np.empty(len(label_of), np.int64)
    number[order[is_first]] = ordered[is_first]
    pieces = np.sort(order[~is_first])
    number[pieces] = n_labels + 1 + np.arange(len(pieces))
    return number, label_of[pieces]


def _faces_reached(regions: np.ndarray, n_regions: int, separate_axes: int) -> np.ndarray:
    faces = np.zeros(n_regions + 1, NUMBERS)
    for axis in range(regions.ndim):
        for side, place in enumerate((0, -1)):
            bit = np.uint32(1 << (2 * (axis + separate_axes) + side))
            faces[np.unique(regions[(slice(None),) * axis + (place,)])] |= bit
    return faces[1:]


def _without_repeats(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of two arrays without those that repeat along the last axis: a tenth of the voxels, or fewer."""
    fresh = np.ones(low.shape, bool)
    np.not_equal(low[..., 1:], low[..., :-1], out=fresh[..., 1:])
    fresh[..., 1:] |= high[..., 1:] != high[..., :-1]
    return low[fresh], high[fresh]


def _pairs_of(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return each pair once, in ascending order."""
    unique = np.unique(label_pairs.pack(low, high))
    return np.stack(label_pairs.unpack(unique), axis=-1).astype(NUMBERS, copy=False)
