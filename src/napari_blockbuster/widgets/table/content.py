"""The rows of a table of objects: in what order they are listed, and a value for each label. No Qt."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .expression import evaluate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Arrangement", "LabelValues", "TableContent", "arrange", "robust_limits", "text_of"]

DENSE = 2**24
"""Labels up to this number, or four times the number of objects, are looked up in a table; others are searched."""


@dataclass(frozen=True)
class TableContent:
    """A table of objects, with quick access to its columns.

    Attributes
    ----------
    frame : pandas.DataFrame
        With a column ``label``. Names of the others are those of `skimage.measure.regionprops_table`.
    """

    frame: pd.DataFrame
    _columns: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def names(self) -> list[str]:
        """Names of the columns as they are shown: label, size with its unit and place come first."""
        return sorted(map(str, self.frame.columns), key=_rank)

    @cached_property
    def numeric(self) -> list[str]:
        """Columns of numbers, except the label."""
        kinds = {str(name): dtype.kind for name, dtype in self.frame.dtypes.items()}
        return [name for name, kind in kinds.items() if kind in "iufb" and name != "label"]

    def column(self, name: str) -> np.ndarray:
        """Return a column as an array."""
        found = self._columns.get(name)
        if found is None:
            found = self._columns[name] = self.frame[name].to_numpy()
        return found

    @property
    def labels(self) -> np.ndarray:
        """Label of each row."""
        return self.column("label")

    @cached_property
    def _sorted_labels(self) -> tuple[np.ndarray, np.ndarray | None]:
        labels = self.labels
        if len(labels) < 2 or (labels[1:] > labels[:-1]).all():
            return labels, None
        order = np.argsort(labels, kind="stable")
        return labels[order], order

    def row_of(self, label: int) -> int | None:
        """Return the row of a label, if there is one."""
        labels, order = self._sorted_labels
        place = int(np.searchsorted(labels, label))
        if place == len(labels) or labels[place] != label:
            return None
        return place if order is None else int(order[place])

    def place_of(self, row: int) -> np.ndarray | None:
        """Return the centroid of an object in voxels of the image, time first; None if the table has no centroids."""
        names = [name for name in (f"centroid-{axis}" for axis in range(3 + 1)) if name in self.frame.columns]
        if not names:
            return None
        time = ["t"] if "t" in self.frame.columns else []
        return np.array([float(self.column(name)[row]) for name in (*time, *names)])


FIRST = (r"label", r"t", r"(area|volume|equivalent_diameter\w*)_[numc]?m[23]?", r"centroid-\d")
"""Columns that are shown first."""


def _rank(name: str) -> int:
    # A sort by rank keeps the order of the table among columns of the same rank.
    return next((k for k, pattern in enumerate(FIRST) if re.fullmatch(pattern, name)), len(FIRST))


@dataclass(frozen=True)
class Arrangement:
    """How a table is listed.

    Attributes
    ----------
    expression : str
        Rows that are listed; "" for all.
    column : str
        Column that sorts the rows; "" for the order of the table.
    descending : bool
    """

    expression: str = ""
    column: str = ""
    descending: bool = False


def arrange(content: TableContent, how: Arrangement, only: np.ndarray | None = None) -> np.ndarray:
    """Return the rows of a table that are listed, in their order. For a thread.

    Parameters
    ----------
    content : TableContent
    how : Arrangement
    only : numpy.ndarray of bool, optional
        Rows that may be listed.

    Raises
    ------
    ExpressionError
        If the expression cannot be used.
    """
    chosen = None
    if how.expression.strip():
        chosen = evaluate(how.expression, {name: content.column(name) for name in content.names})
    if only is not None:
        chosen = only if chosen is None else chosen & only
    rows = np.arange(len(content)) if chosen is None else np.flatnonzero(chosen)
    if not how.column or how.column not in content.names:
        return rows
    keys = content.column(how.column)[rows]
    if keys.dtype.kind not in "iufb":
        keys = np.unique(keys.astype(str), return_inverse=True)[1]
    missing = np.isnan(keys) if keys.dtype.kind == "f" else None
    order = np.argsort(keys, kind="stable")
    if how.descending:
        order = order[::-1]
        if missing is not None and missing.any():
            # Missing values stay at the end.
            n = int(missing.sum())
            order = np.concatenate([order[n:], order[:n]])
    return rows[order]


class LabelValues:
    """A value for each label of an image. Labels without one, and background, are not a number.

    Parameters
    ----------
    labels, values : numpy.ndarray
        Of equal length.
    """

    def __init__(self, labels: np.ndarray, values: np.ndarray) -> None:
        values = np.asarray(values, np.float32)
        highest = int(labels.max()) if len(labels) else 0
        self._table: np.ndarray | None = None
        if highest <= max(DENSE, 4 * len(labels)):
            # One entry more, for all labels above.
            self._table = np.full(highest + 2, np.nan, np.float32)
            self._table[labels] = values
            self._table[0] = np.nan
        else:
            order = np.argsort(labels, kind="stable")
            self._labels, self._values = labels[order], values[order]

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """Return the value of each voxel: float32."""
        if self._table is not None:
            if labels.dtype.kind == "u":
                labels = np.minimum(labels, len(self._table) - 1)
            return np.take(self._table, labels, mode="clip")
        place = np.minimum(np.searchsorted(self._labels, labels), len(self._labels) - 1)
        return np.where(self._labels[place] == labels, self._values[place], np.float32(np.nan)).astype(np.float32)


def robust_limits(values: np.ndarray) -> tuple[float, float]:
    """Return the 1st and 99th percentile of the finite values, as limits of colors; always apart."""
    values = np.asarray(values)
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not len(finite):
        return 0.0, 1.0
    low, high = (float(x) for x in np.percentile(finite, (1, 99)))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low, low + 1.0)


def text_of(value: Any) -> str:
    """Return a cell as text."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return "" if value is None else str(value)
