"""Sizes and places of the labels of any labels layer, plane by plane. No Qt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["measure_labels"]

SLAB = 2**24
"""Voxels that are read at a time."""


def measure_labels(data: Any, stopped: Callable[[], bool] = lambda: False) -> pd.DataFrame:
    """Return label, area, centroid and bounding box of each label.

    Parameters
    ----------
    data : array_like
        Labels. It is read in slabs along the first axis.
    stopped : callable
        Says whether to give up.
    """
    import pandas as pd

    ndim, sums = len(data.shape), _Sums(len(data.shape))
    per_plane = max(1, int(np.prod([float(n) for n in data.shape[1:]])))
    step = max(1, SLAB // per_plane)
    for start in range(0, data.shape[0], step):
        if stopped():
            break
        sums.add(np.asarray(data[start : start + step]), start)
    labels, rows = sums.total()
    area = rows[:, 0]
    columns: dict[str, np.ndarray] = {"label": labels, "area": area.astype(np.int64)}
    for axis in range(ndim):
        columns[f"centroid-{axis}"] = rows[:, 1 + axis] / area
    for k in range(2 * ndim):
        columns[f"bbox-{k}"] = rows[:, 1 + ndim + k].astype(np.int64)
    box = [columns[f"bbox-{ndim + k}"] - columns[f"bbox-{k}"] for k in range(ndim)]
    columns["extent"] = area / np.prod(box, axis=0) if len(labels) else area
    return pd.DataFrame(columns)


class _Sums:
    """Sums of labels, slab by slab: voxels, sums of positions, lowest and highest positions."""

    def __init__(self, ndim: int) -> None:
        self._ndim = ndim
        self._labels: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []

    def add(self, slab: np.ndarray, start: int) -> None:
        places = np.nonzero(slab)
        if not len(places[0]):
            return
        labels, inverse = np.unique(slab[places], return_inverse=True)
        n, ndim = len(labels), self._ndim
        rows = np.zeros((n, 1 + 3 * ndim))
        rows[:, 0] = np.bincount(inverse, minlength=n)
        for axis, place in enumerate(places):
            at = place + (start if axis == 0 else 0)
            rows[:, 1 + axis] = np.bincount(inverse, weights=at, minlength=n)
            low = np.full(n, np.iinfo(np.int64).max)
            high = np.zeros(n, np.int64)
            np.minimum.at(low, inverse, at)
            np.maximum.at(high, inverse, at + 1)
            rows[:, 1 + ndim + axis], rows[:, 1 + 2 * ndim + axis] = low, high
        self._labels.append(labels.astype(np.int64))
        self._rows.append(rows)

    def total(self) -> tuple[np.ndarray, np.ndarray]:
        ndim = self._ndim
        if not self._labels:
            return np.zeros(0, np.int64), np.zeros((0, 1 + 3 * ndim))
        labels, rows = np.concatenate(self._labels), np.concatenate(self._rows)
        order = np.argsort(labels, kind="stable")
        labels, rows = labels[order], rows[order]
        starts = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
        found = np.add.reduceat(rows, starts, axis=0)
        found[:, 1 + ndim : 1 + 2 * ndim] = np.minimum.reduceat(rows[:, 1 + ndim : 1 + 2 * ndim], starts, axis=0)
        found[:, 1 + 2 * ndim :] = np.maximum.reduceat(rows[:, 1 + 2 * ndim :], starts, axis=0)
        return labels[starts], found
