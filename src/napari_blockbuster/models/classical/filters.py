"""Smoothing, seeds and watershed: steps that the classical models share.

They work in float32 on tiles of any rank and take lengths in voxels along each axis. Each has a known reach: voxels
farther away than that have no effect, so tiles with enough halo agree with the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["difference_of_gaussians", "flood", "keep_seeded", "otsu", "peaks", "smooth", "smooth_at"]

TRUNCATE = 3.0
"""Standard deviations at which a Gaussian is truncated."""
BOXES_FROM = 3.0
"""From this sigma on (voxels), three running means replace the Gaussian. Their cost does not depend on sigma."""
DOG_RATIO = 1.6
"""Ratio of the two Gaussians at which their difference is closest to a Laplacian of Gaussian (Marr & Hildreth 1980)."""
AT_ONCE = 2**22
"""Voxels that `smooth_at` gathers at once around its points."""


def smooth(image: np.ndarray, sigma: Sequence[float]) -> np.ndarray:
    """Gaussian smoothing.

    Wide Gaussians are three running means of equal total variance (Wells 1986, IEEE PAMI 8:234; Kovesi 2010, DICTA),
    which is as fast for a nucleus of 100 voxels as for one of 10.

    Parameters
    ----------
    image : numpy.ndarray
        Any real type. Not changed. NaN counts as 0.
    sigma : sequence of float
        Standard deviation along each axis, in voxels. 0 does not smooth the axis.

    Returns
    -------
    numpy.ndarray
        float32, the image's shape.
    """
    from scipy import ndimage

    result = np.array(image, np.float32)
    if image.dtype.kind == "f":
        # A running mean would carry a single NaN through the rest of its line.
        np.nan_to_num(result, copy=False, nan=0.0)
    for axis, s in enumerate(sigma):
        # Both filters work line by line, so they can work in place.
        if s >= BOXES_FROM:
            for width in _box_widths(s):
                ndimage.uniform_filter1d(result, width, axis, result, mode="nearest")
        elif s > 0:
            ndimage.gaussian_filter1d(result, s, axis, output=result, mode="nearest", truncate=TRUNCATE)
    return result


def _box_widths(sigma: float) -> tuple[int, int, int]:
    """Return odd widths of three running means whose variances add up to about ``sigma**2``."""
    narrow = int(math.sqrt(4 * sigma**2 + 1))
    narrow -= 1 - narrow % 2
    # A mean over w voxels has the variance (w^2 - 1) / 12.
    missing = 12 * sigma**2 - 3 * (narrow**2 - 1)
    wider = round(missing / ((narrow + 2) ** 2 - narrow**2))
    first, second, third = (narrow + 2 * (i < wider) for i in range(3))
    return first, second, third


def smooth_at(image: np.ndarray, points: Sequence[np.ndarray], sigma: Sequence[float]) -> np.ndarray:
    """Gaussian smoothing at a few points only.

    Parameters
    ----------
    image : numpy.ndarray
        Finite.
    points : sequence of numpy.ndarray
        One array of indices for each axis, as from ``numpy.nonzero``.
    sigma : sequence of float
        Standard deviation along each axis, in voxels.

    Returns
    -------
    numpy.ndarray
        float32, one value for each point.
    """
    windows = [np.arange(-math.ceil(TRUNCATE * s), math.ceil(TRUNCATE * s) + 1) for s in sigma]
    if math.prod(map(len, windows)) > AT_ONCE:
        return np.asarray(smooth(image, sigma)[tuple(points)])
    kernels = [np.exp(-0.5 * (w / s) ** 2) if s > 0 else np.ones(1) for w, s in zip(windows, sigma, strict=True)]
    values = np.empty(len(points[0]), np.float32)
    step = max(1, AT_ONCE // math.prod(map(len, windows)))
    for start in range(0, len(values), step):
        around = np.ix_(np.arange(len(values[start : start + step])), *windows)[1:]
        # Beyond the border, the outermost voxel counts, as in `smooth`.
        index = tuple(
            np.clip(p[start : start + step].reshape(-1, *(1,) * image.ndim) + offsets, 0, n - 1)
            for p, offsets, n in zip(points, around, image.shape, strict=True)
        )
        gathered = image[index]
        for kernel in reversed(kernels):
            gathered = gathered @ (kernel / kernel.sum()).astype(np.float32)
        values[start : start + step] = gathered
    return values


def difference_of_gaussians(image: np.ndarray, sigma: Sequence[float]) -> np.ndarray:
    """Return how much brighter an image is than its surroundings: float32, highest on blobs of diameter ``4 * sigma``."""
    fine = smooth(image, sigma)
    # Variances of successive Gaussians add up.
    rest = math.sqrt(DOG_RATIO**2 - 1)
    fine -= smooth(fine, [s * rest for s in sigma])
    return fine


def peaks(field: np.ndarray, mask: np.ndarray, radius: Sequence[float]) -> np.ndarray:
    """Find and number the local maxima of a field inside a mask.

    Parameters
    ----------
    field : numpy.ndarray
    mask : numpy.ndarray
        bool. Maxima outside it do not count (but hide lower ones inside).
    radius : sequence of float
        Half the window in which a maximum must be the highest, in voxels. At least its direct neighbors are compared.

    Returns
    -------
    numpy.ndarray
        int32, 1..n at the maxima (voxels of a plateau share a number), 0 elsewhere.
    """
    from scipy import ndimage

    window = [2 * max(1, round(r)) + 1 for r in radius]
    highest = ndimage.maximum_filter(field, window, mode="nearest")
    found = np.equal(field, highest) & mask
    markers = np.zeros(field.shape, np.int32)
    ndimage.label(found, np.ones((3,) * field.ndim, bool), markers)
    return markers


def flood(field: np.ndarray, markers: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Divide a mask by a seeded watershed: the steepest way up the field leads from each voxel to its marker.

    Returns int32 labels with the markers' numbers. Parts of the mask without a marker stay 0.
    """
    from skimage import segmentation

    # scikit-image types some of its functions and not others.
    watershed: Any = segmentation.watershed

    # Objects usually fill a small part of a tile.
    labels = np.zeros(field.shape, np.int32)
    box = _bounding_box(mask)
    if box is not None:
        labels[box] = watershed(-field[box], markers[box], mask=mask[box])
    return labels


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(i for i in range(mask.ndim) if i != axis)))
        if not len(used):
            return None
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)


def keep_seeded(labels: np.ndarray, markers: np.ndarray) -> np.ndarray:
    """Keep the connected part of each label that contains its marker. Other parts become background."""
    from skimage import measure

    label: Any = measure.label
    parts = label(labels, connectivity=1)
    keep = np.zeros(int(parts.max()) + 1, bool)
    keep[parts[markers > 0]] = True
    keep[0] = False
    return np.where(keep[parts], labels, 0)


def otsu(counts: np.ndarray, centers: np.ndarray) -> float:
    """Return Otsu's threshold of a histogram (Otsu 1979, IEEE SMC 9:62)."""
    from skimage import filters

    threshold_otsu: Any = filters.threshold_otsu
    if np.count_nonzero(counts) < 2:
        return float(centers[-1])
    return float(threshold_otsu(hist=(counts, centers)))
