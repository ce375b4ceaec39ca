"""Compiled loops over the voxels of one tile. Importing this module loads numba, so it is imported where it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = ["INTENSITY_COLUMNS", "PLACE_COLUMNS", "empty_intensities", "empty_places", "intensities", "places"]

PLACE_COLUMNS = 19
"""Voxels, lowest and highest coordinates (3 + 3), first moments (3), second moments (6), exposed faces per axis (3)."""
INTENSITY_COLUMNS = 9
"""Finite voxels, shift, sums of the shifted values and of their squares, minimum, maximum, value-weighted coordinates (3)."""


def empty_places(n: int) -> np.ndarray:
    """Return the sums of no voxels, for labels from 0 to n."""
    sums = np.zeros((n + 1, PLACE_COLUMNS), np.int64)
    sums[:, 1:4], sums[:, 4:7] = np.iinfo(np.int64).max, -1
    return sums


def empty_intensities(n: int, channels: int) -> np.ndarray:
    """Return the sums of no pixels, for labels from 0 to n."""
    sums = np.zeros((n + 1, channels, INTENSITY_COLUMNS))
    sums[..., 4], sums[..., 5] = np.inf, -np.inf
    return sums


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function when it is first called. The result is cached on disk where a folder for it can be written."""
    try:
        compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        compiled = numba.njit(nogil=True)(function)
    return compiled


@_compiled
def _slot(keys, key):  # type: ignore[no-untyped-def]
    """Place of a key in an open hash table, or the free place where it belongs. 0 is no key."""
    mask = np.uint64(len(keys) - 1)
    at = ((key ^ (key >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)
    at &= mask
    while keys[at] != np.uint64(0) and keys[at] != key:
        at = (at + np.uint64(1)) & mask
    return at


@_compiled
def _grown(keys, counts):  # type: ignore[no-untyped-def]
    """Return a hash table of twice the size."""
    more_keys = np.zeros(2 * len(keys), np.uint64)
    more_counts = np.zeros((2 * len(keys), 3), np.int64)
    for old in range(len(keys)):
        if keys[old] != np.uint64(0):
            at = _slot(more_keys, keys[old])
            more_keys[at] = keys[old]
            for axis in range(3):
                more_counts[at, axis] = counts[old, axis]
    return more_keys, more_counts


@_compiled
def _collected(events, axes, number, keys, counts, used):  # type: ignore[no-untyped-def]
    """Count events in a hash table. Return the table, which may have grown, and the number of its keys."""
    for event in range(number):
        if 2 * used >= len(keys):
            keys, counts = _grown(keys, counts)
        at = _slot(keys, events[event])
        if keys[at] == np.uint64(0):
            keys[at] = events[event]
            used += 1
        counts[at, axes[event]] += 1
    return keys, counts, used


@_compiled
def _pair(a, b):  # type: ignore[no-untyped-def]
    low, high = (a, b) if a < b else (b, a)
    return (np.uint64(low) << np.uint64(32)) | np.uint64(high)


@_compiled
def _compare(row, before, axis, sums, events, axes, number):  # type: ignore[no-untyped-def]
    """Count the faces between a row and the row before it along an axis. Return the number of events."""
    for x in range(len(row)):
        label, other = row[x], before[x]
        if label != other:
            sums[label, 16 + axis] += 1
            sums[other, 16 + axis] += 1
            if label != 0 and other != 0:
                events[number] = _pair(label, other)
                axes[number] = axis
                number += 1
    return number


@_compiled
def places(labels, sums):  # type: ignore[no-untyped-def]
    """Sum the places of labels.

    Parameters
    ----------
    labels : numpy.ndarray
        uint32, (z, y, x), C order, from 0 to n.
    sums : numpy.ndarray
        int64, (n + 1, `PLACE_COLUMNS`), from `empty_places`. The sums are added to it.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        Hash table of the pairs of labels that touch by faces: uint64 (see `napari_blockbuster.stage.label_pairs`), 0 for
        free places; and the number of their faces along each axis, int64 of shape (places, 3).
    """
    keys = np.zeros(256, np.uint64)
    counts = np.zeros((256, 3), np.int64)
    used = number = 0
    depth, height, width = labels.shape
    events = np.zeros(3 * width + 65536, np.uint64)
    axes = np.zeros(len(events), np.int8)
    for z in range(depth):
        for y in range(height):
            row = labels[z, y]
            x = 0
            while x < width:
                label = row[x]
                begin = x
                while x < width and row[x] == label:
                    x += 1
                if label == 0:
                    continue
                voxels = x - begin
                along = voxels * (begin + x - 1) // 2
                squares = (x - 1) * x * (2 * x - 1) // 6 - (begin - 1) * begin * (2 * begin - 1) // 6
                of = sums[label]
                of[0] += voxels
                of[1] = min(of[1], z)
                of[2] = min(of[2], y)
                of[3] = min(of[3], begin)
                of[4] = max(of[4], z)
                of[5] = max(of[5], y)
                of[6] = max(of[6], x - 1)
                of[7] += voxels * z
                of[8] += voxels * y
                of[9] += along
                of[10] += voxels * z * z
                of[11] += voxels * z * y
                of[12] += z * along
                of[13] += voxels * y * y
                of[14] += y * along
                of[15] += squares
                # Borders of the tile count as faces. The merge subtracts those between labels of one object.
                of[18] += 2
                if y == 0:
                    of[17] += voxels
                if y == height - 1:
                    of[17] += voxels
                if z == 0:
                    of[16] += voxels
                if z == depth - 1:
                    of[16] += voxels
                if x < width and row[x] != 0:
                    events[number] = _pair(label, row[x])
                    axes[number] = 2
                    number += 1
            if z > 0:
                number = _compare(row, labels[z - 1, y], 0, sums, events, axes, number)
            if y > 0:
                number = _compare(row, labels[z, y - 1], 1, sums, events, axes, number)
            if number + 3 * width > len(events):
                # Arrays are passed on per row and not per voxel: numba counts references at each assignment.
                keys, counts, used = _collected(events, axes, number, keys, counts, used)
                number = 0
    keys, counts, used = _collected(events, axes, number, keys, counts, used)
    return keys, counts


@_compiled
def intensities(labels, pixels, sums):  # type: ignore[no-untyped-def]
    """Sum the pixels of labels. Values that are not finite do not count.

    Parameters
    ----------
    labels : numpy.ndarray
        uint32, (z, y, x), C order, from 0 to n.
    pixels : numpy.ndarray
        (z, y, x, channels), C order.
    sums : numpy.ndarray
        float64, (n + 1, channels, `INTENSITY_COLUMNS`), from `empty_intensities`. The sums are added to it.
    """
    channels = pixels.shape[3]
    depth, height, width = labels.shape
    for z in range(depth):
        for y in range(height):
            row = labels[z, y]
            x = 0
            while x < width:
                label = row[x]
                begin = x
                while x < width and row[x] == label:
                    x += 1
                if label == 0:
                    continue
                for channel in range(channels):
                    of = sums[label, channel]
                    finite, shift = of[0], of[1]
                    total, squares, weighted, raw = 0.0, 0.0, 0.0, 0.0
                    low, high = of[4], of[5]
                    for at in range(begin, x):
                        value = np.float64(pixels[z, y, at, channel])
                        if not np.isfinite(value):
                            continue
                        if finite == 0:
                            # Values are summed as differences from the first one: large values with a small spread keep it.
                            shift = value
                        finite += 1
                        difference = value - shift
                        total += difference
                        squares += difference * difference
                        raw += value
                        weighted += value * at
                        low = min(low, value)
                        high = max(high, value)
                    of[0], of[1], of[4], of[5] = finite, shift, low, high
                    of[2] += total
                    of[3] += squares
                    of[6] += raw * z
                    of[7] += raw * y
                    of[8] += weighted
