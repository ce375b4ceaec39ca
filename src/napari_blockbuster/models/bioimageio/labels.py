"""From the maps that a network returns to labels."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["from_boundaries", "from_foreground", "from_labels"]


def from_labels(found: np.ndarray) -> np.ndarray:
    """An instance mask as it is.

    Raises
    ------
    ValueError
        If its numbers are not whole or negative.
    """
    rounded = np.rint(found)
    if not np.array_equal(rounded, found) or (rounded < 0).any():
        raise ValueError(
            "the model's output is not an instance mask: it has negative numbers, or numbers with fractions"
        )
    labels: np.ndarray = rounded.astype(np.int64)
    return labels


def from_foreground(foreground: np.ndarray, threshold: float) -> np.ndarray:
    """Connected components (across faces) of what lies above a threshold: touching objects become one."""
    from scipy import ndimage

    labels, _ = ndimage.label(foreground > threshold)
    return np.asarray(labels)


def from_boundaries(
    foreground: np.ndarray, boundary: np.ndarray, threshold: float, boundary_threshold: float
) -> np.ndarray:
    """Components of foreground without boundary, grown by a watershed of the boundary map over all foreground.

    Foreground that holds no seed, thin objects that are boundary all over, is an object by itself, so nothing is lost
    where a tile's border cuts an object.
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
