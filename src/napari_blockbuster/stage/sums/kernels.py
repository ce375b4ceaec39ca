"""Compiled loops over the voxels of one tile. Importing this module loads numba, so it is imported where it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = [
    "INTENSITY_COLUMNS",
    "PLACE_COLUMNS",
    "empty_intensities",
    "empty_places",
    "find_runs",
    "sum_floats",
    "sum_places",
    "sum_whole_numbers",
]

PLACE_COLUMNS = 19
"""Voxels, lowest and highest coordinates (3 + 3), first moments (3), second moments (6), exposed faces per axis (3)."""
INTENSITY_COLUMNS = 9
"""Finite voxels, shift, sums of the shifted values and of their squares, minimum, maximum, value-weighted coordinates (3)."""
STEP = 8
"""Voxels compared at once while a run is followed."""


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
def _collected(events, number, keys, counts, used):  # type: ignore[no-untyped-def]
    """Add up events in a hash table. Return the table, which may have grown, and the number of its keys."""
    for event in range(number):
        key = events[event, 0]
        if 2 * used >= len(keys):
            keys, counts = _grown(keys, counts)
        at = _slot(keys, key)
        if keys[at] == np.uint64(0):
            keys[at] = key
            used += 1
        counts[at, events[event, 1]] += np.int64(events[event, 2])
    return keys, counts, used


@_compiled
def _note(events, number, a, b, axis, faces):  # type: ignore[no-untyped-def]
    """Note faces between two labels. Return the number of events."""
    low, high = (a, b) if a < b else (b, a)
    events[number, 0] = (np.uint64(low) << np.uint64(32)) | np.uint64(high)
    events[number, 1] = axis
    events[number, 2] = faces
    return number + 1


@_compiled
def find_runs(labels):  # type: ignore[no-untyped-def]
    """Find the runs of equal labels along the rows of a tile. Background has none.

    Parameters
    ----------
    labels : numpy.ndarray
        uint32, (z, y, x), C order.

    Returns
    -------
    runs : numpy.ndarray
        int32, (at least all runs, 3): label, first voxel, and the voxel behind the last one.
    starts : numpy.ndarray
        int64, (rows + 1): the first run of each row.
    """
    depth, height, width = labels.shape
    runs = np.empty((16 * height + width, 3), np.int32)
    starts = np.zeros(depth * height + 1, np.int64)
    end, step = np.uintp(width), np.uintp(STEP)
    number = 0
    for line in range(depth * height):
        if number + width > len(runs):
            more = np.empty((2 * len(runs) + width, 3), np.int32)
            # An assignment of slices takes seconds to compile.
            for run in range(number):
                for column in range(3):
                    more[run, column] = runs[run, column]
            runs = more
        row = labels[line // height, line % height]
        x = np.uintp(0)
        while x < end:
            label = row[x]
            begin = x
            x += np.uintp(1)
            # The compiler turns the inner loop into few instructions, because unsigned indices need no check of their sign.
            while x + step <= end:
                different = np.uint32(0)
                for ahead in range(step):
                    different |= row[x + ahead] ^ label
                if different != 0:
                    break
                x += step
            while x < end and row[x] == label:
                x += np.uintp(1)
            if label != 0:
                runs[number, 0], runs[number, 1], runs[number, 2] = label, begin, x
                number += 1
        starts[line + 1] = number
    return runs, starts


@_compiled
def _sum_row(z, y, runs, sums, events, number):  # type: ignore[no-untyped-def]
    """Add the runs of a row to the sums. Return the number of events."""
    behind = np.int64(0)
    for run in range(len(runs)):
        label, begin, end = runs[run, 0], np.int64(runs[run, 1]), np.int64(runs[run, 2])
        voxels = end - begin
        along = voxels * (begin + end - 1) // 2
        squares = (end - 1) * end * (2 * end - 1) // 6 - (begin - 1) * begin * (2 * begin - 1) // 6
        of = sums[label]
        of[0] += voxels
        of[1] = min(of[1], z)
        of[2] = min(of[2], y)
        of[3] = min(of[3], begin)
        of[4] = max(of[4], z)
        of[5] = max(of[5], y)
        of[6] = max(of[6], end - 1)
        of[7] += voxels * z
        of[8] += voxels * y
        of[9] += along
        of[10] += voxels * z * z
        of[11] += voxels * z * y
        of[12] += z * along
        of[13] += voxels * y * y
        of[14] += y * along
        of[15] += squares
        # Both sides of each voxel along z and y. Rows that meet take back those inside a label.
        of[16] += 2 * voxels
        of[17] += 2 * voxels
        of[18] += 2
        if begin == behind and run > 0:
            number = _note(events, number, runs[run - 1, 0], label, np.int64(2), np.int64(1))
        behind = end
    return number


@_compiled
def _meet(runs, others, axis, sums, events, number):  # type: ignore[no-untyped-def]
    """Take back the faces inside labels between two rows, and note those between labels. Return the number of events."""
    run = other = 0
    while run < len(runs) and other < len(others):
        end, other_end = runs[run, 2], others[other, 2]
        shared = min(end, other_end) - max(runs[run, 1], others[other, 1])
        if shared > 0:
            label, other_label = runs[run, 0], others[other, 0]
            if label == other_label:
                sums[label, 16 + axis] -= 2 * shared
            else:
                number = _note(events, number, label, other_label, axis, shared)
        if end <= other_end:
            run += 1
        if other_end <= end:
            other += 1
    return number


@_compiled
def sum_places(height, runs, starts, sums):  # type: ignore[no-untyped-def]
    """Sum the places of labels.

    Parameters
    ----------
    height : int
        Rows of a plane.
    runs, starts : numpy.ndarray
        From `find_runs`.
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
    # Constants would be types of their own: the helpers would be compiled for each.
    used = number = np.int64(0)
    along_z, along_y = np.int64(0), np.int64(1)
    events = np.empty((65536, 3), np.uint64)
    for line in range(len(starts) - 1):
        row = runs[starts[line] : starts[line + 1]]
        if not len(row):
            continue
        above = runs[starts[line - height] : starts[line - height + 1]] if line >= height else row[:0]
        before = runs[starts[line - 1] : starts[line]] if line % height else row[:0]
        room = 3 * len(row) + len(above) + len(before)
        if number + room > len(events):
            # Arrays are passed on per row and not per voxel: numba counts references at each assignment.
            keys, counts, used = _collected(events, number, keys, counts, used)
            number = np.int64(0)
            if room > len(events):
                events = np.empty((2 * room, 3), np.uint64)
        number = _sum_row(line // height, line % height, row, sums, events, number)
        number = _meet(row, above, along_z, sums, events, number)
        number = _meet(row, before, along_y, sums, events, number)
    keys, counts, used = _collected(events, number, keys, counts, used)
    return keys, counts


@_compiled
def sum_whole_numbers(runs, starts, pixels, sums):  # type: ignore[no-untyped-def]
    """Sum the pixels of labels, for integers of at most 16 bits. The sums of each run are exact.

    Parameters
    ----------
    runs, starts : numpy.ndarray
        From `find_runs`.
    pixels : numpy.ndarray
        (z, y, x, channels), C order.
    sums : numpy.ndarray
        float64, (n + 1, channels, `INTENSITY_COLUMNS`), from `empty_intensities`. The sums are added to it.
    """
    height = pixels.shape[1]
    for line in range(len(starts) - 1):
        z, y = line // height, line % height
        for run in range(starts[line], starts[line + 1]):
            begin, end = np.int64(runs[run, 1]), np.int64(runs[run, 2])
            for channel in range(pixels.shape[3]):
                first = np.int64(pixels[z, y, begin, channel])
                low = high = first
                total = squares = weighted = np.int64(0)
                place = begin
                for pixel in pixels[z, y, begin:end, channel]:
                    value = np.int64(pixel)
                    total += value
                    squares += value * value
                    weighted += value * place
                    low = min(low, value)
                    high = max(high, value)
                    place += 1
                of = sums[runs[run, 0], channel]
                if of[0] == 0:
                    of[1] = first
                shift, voxels = np.int64(of[1]), end - begin
                of[0] += voxels
                of[2] += total - voxels * shift
                of[3] += squares - 2 * shift * total + voxels * shift * shift
                of[4] = min(of[4], low)
                of[5] = max(of[5], high)
                of[6] += total * z
                of[7] += total * y
                of[8] += weighted


@_compiled
def sum_floats(runs, starts, pixels, sums):  # type: ignore[no-untyped-def]
    """Sum the pixels of labels as `sum_whole_numbers` does, for any real dtype. Values that are not finite do not count."""
    height = pixels.shape[1]
    for line in range(len(starts) - 1):
        z, y = line // height, line % height
        for run in range(starts[line], starts[line + 1]):
            for channel in range(pixels.shape[3]):
                of = sums[runs[run, 0], channel]
                finite, shift = of[0], of[1]
                total, squares, weighted, raw = 0.0, 0.0, 0.0, 0.0
                low, high = of[4], of[5]
                for at in range(runs[run, 1], runs[run, 2]):
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
