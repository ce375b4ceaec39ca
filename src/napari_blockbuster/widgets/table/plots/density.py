"""Numbers behind the plots: bins, densities, and the points inside a lasso. For threads; no Qt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["MOST_POINTS", "Bars", "Cloud", "bars", "cloud", "inside"]

MOST_POINTS = 10_000
"""Points that are drawn one by one, which takes 25 ms. More are drawn as a density."""
BINS, CELLS = 80, 256


@dataclass(frozen=True)
class Bars:
    """A histogram: edges of the bins, and the number of objects (and of selected objects) in each."""

    edges: np.ndarray
    counts: np.ndarray
    selected: np.ndarray


@dataclass(frozen=True)
class Cloud:
    """Two columns against each other: points, or a density if there are many.

    Attributes
    ----------
    box : tuple of float
        Left, bottom, width and height.
    points, selected_points : numpy.ndarray or None
        (n, 2); None where the density is drawn.
    density, selected_density : numpy.ndarray or None
        Objects in each cell, x first.
    """

    box: tuple[float, float, float, float]
    points: np.ndarray | None
    selected_points: np.ndarray | None
    density: np.ndarray | None
    selected_density: np.ndarray | None


def _span(values: np.ndarray) -> tuple[float, float]:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def bars(values: np.ndarray, selected: np.ndarray | None = None) -> Bars:
    """Return the histogram of the finite values, and that of the selected ones."""
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    span = _span(values[finite])
    counts, edges = np.histogram(values[finite], BINS, span)
    chosen = np.zeros(BINS, int) if selected is None else np.histogram(values[finite & selected], BINS, span)[0]
    return Bars(edges, counts, chosen)


def cloud(x: np.ndarray, y: np.ndarray, selected: np.ndarray | None = None) -> Cloud:
    """Return the points of two columns, or their density beyond `MOST_POINTS`."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    chosen = np.zeros(len(x), bool) if selected is None else selected[finite]
    (left, right), (bottom, top) = _span(x), _span(y)
    box = left, bottom, right - left, top - bottom
    if len(x) <= MOST_POINTS:
        points = np.column_stack([x, y])
        return Cloud(box, points, points[chosen], None, None)
    columns = np.minimum(((x - left) * (CELLS / (right - left))).astype(np.intp), CELLS - 1)
    rows = np.minimum(((y - bottom) * (CELLS / (top - bottom))).astype(np.intp), CELLS - 1)
    cells = columns * CELLS + rows
    counts = np.bincount(cells, minlength=CELLS**2).reshape(CELLS, CELLS)
    marked = np.bincount(cells[chosen], minlength=CELLS**2).reshape(CELLS, CELLS)
    return Cloud(box, None, None, counts, marked)


def inside(x: np.ndarray, y: np.ndarray | None, polygon: np.ndarray) -> np.ndarray:
    """Return which points lie inside a lasso. Without `y`: those whose `x` is in its horizontal extent.

    Parameters
    ----------
    x, y : numpy.ndarray
    polygon : numpy.ndarray
        (n, 2) corners, in the units of the columns.
    """
    from skimage.measure import points_in_poly

    x = x.astype(np.float64)
    low, high = polygon.min(0), polygon.max(0)
    found = (x >= low[0]) & (x <= high[0])
    if y is None:
        return found
    y = y.astype(np.float64)
    found &= (y >= low[1]) & (y <= high[1])
    near = np.flatnonzero(found)
    # Equal scales along both axes, so that rounding treats them alike.
    size = np.where(high > low, high - low, 1.0)
    points = (np.column_stack([x[near], y[near]]) - low) / size
    found[near] = points_in_poly(points, (polygon - low) / size)
    return found
