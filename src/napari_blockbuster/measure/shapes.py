"""Shape of objects from their covariance: principal axes, as `skimage.measure.regionprops` defines them."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["axis_lengths", "ball_diameter", "principal_variances"]

CLOSE = 1e-6
"""Distance of the cosine of the angle from 1 below which the closed formula loses digits."""


def principal_variances(covariance: np.ndarray) -> np.ndarray:
    """Return the variances along the principal axes, largest first.

    Parameters
    ----------
    covariance : numpy.ndarray
        float64, (n (n + 1) / 2, objects), in the order of ``numpy.triu_indices``.

    Returns
    -------
    numpy.ndarray
        (n, objects); not negative.
    """
    if len(covariance) == 1:
        found = covariance.copy()
    elif len(covariance) == 3:
        a, c, b = covariance
        middle, radius = (a + b) / 2, np.hypot((a - b) / 2, c)
        found = np.stack([middle + radius, middle - radius])
    else:
        found = _of_three_axes(covariance)
    # Objects of a single plane have no extent across it, and rounding must not give them one.
    found[found < 1e-13 * found[0]] = 0
    return found


def _of_three_axes(covariance: np.ndarray) -> np.ndarray:
    """The roots of the characteristic polynomial by angles; by LAPACK where two of them nearly coincide."""
    xx, xy, xz, yy, yz, zz = covariance
    mean = (xx + yy + zz) / 3
    a, b, c = xx - mean, yy - mean, zz - mean
    spread = np.sqrt((a * a + b * b + c * c + 2 * (xy * xy + xz * xz + yz * yz)) / 6)
    determinant = a * (b * c - yz * yz) - xy * (xy * c - yz * xz) + xz * (xy * yz - b * xz)
    cosine = np.divide(determinant, 2 * spread**3, out=np.ones_like(spread), where=spread > 0)
    angle = np.arccos(np.clip(cosine, -1, 1)) / 3
    largest = mean + 2 * spread * np.cos(angle)
    smallest = mean + 2 * spread * np.cos(angle + 2 * math.pi / 3)
    found = np.stack([largest, 3 * mean - largest - smallest, smallest])
    doubtful = np.flatnonzero(np.abs(cosine) > 1 - CLOSE)
    if len(doubtful):
        matrices = covariance[:, doubtful][[0, 1, 2, 1, 3, 4, 2, 4, 5]].T.reshape(-1, 3, 3)
        found[:, doubtful] = np.linalg.eigvalsh(matrices)[:, ::-1].T
    return found


def axis_lengths(variances: np.ndarray) -> np.ndarray:
    """Return the lengths of the axes of the ellipse, or ellipsoid, with these variances."""
    factor = {1: 12.0, 2: 16.0, 3: 20.0}[len(variances)]
    lengths: np.ndarray = np.sqrt(factor * variances)
    return lengths


def ball_diameter(size: np.ndarray, ndim: int) -> np.ndarray:
    """Return the diameter of the circle, or ball, of this area or volume; the size itself along one axis."""
    diameter: np.ndarray = size * 1.0 if ndim == 1 else (2 * ndim * size / math.pi) ** (1 / ndim)
    return diameter
