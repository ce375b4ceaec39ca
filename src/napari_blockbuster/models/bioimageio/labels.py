"""Labels from the maps that a network returns."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["from_boundaries", "from_foreground", "from_labels"]


def from_labels(found: np.ndarray) -> np.ndarray:
    """Return an instance mask as integer labels.

    Raises
    ------
    ValueError
        If it has negative numbers or fractions.
    """
    rounded = np.rint(found)
    if not np.array_equal(rounded, found) or (rounded < 0).any():
        raise ValueError(
            "the model's output is not an instance mask: it has negative numbers, or numbers with fractions"
        )
    labels: np.ndarray = rounded.astype(np.int64)
    return labels


def from_foreground(foreground: np.ndarray, threshold: float) -> np.ndarray:
    """Return connected components (across faces) above a threshold. Touching objects become one."""
    from scipy import ndimage

    labels, _ = ndimage.label(foreground > threshold)
    return np.asarray(labels)


def from_boundaries(
    foreground: np.ndarray, boundary: np.ndarray, threshold: float, boundary_threshold: float
) -> np.ndarray:
    """Return components of foreground without boundary, grown by a watershed of the boundary map over all foreground.

    Foreground without a seed (thin objects that are all boundary) becomes an object of its own, so nothing is lost where
    the border of a tile cuts an object.
    """
    from scipy import ndimage
    from skimage import segmentation

    watershed: Any = segmentation.watershed

    mask = foreground > threshold
    seeds, n = ndimage.label(mask & (boundary < boundary_threshold))
    parts, n_parts = ndimage.label(mask)
    seeded = np.zeros(n_parts + 1, bool)
    seeded[parts[seeds > 0]] = True
    bare = mask & ~seeded[parts]
    seeds[bare] = parts[bare] + n
    return np.asarray(watershed(boundary, seeds, mask=mask))
