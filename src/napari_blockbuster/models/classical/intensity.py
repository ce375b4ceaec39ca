"""One brightness scale for a whole image, on which dim and bright nuclei have equal weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from napari_blockbuster.models.networks.brightness import measure_range

from .filters import otsu

__all__ = ["LogScale", "Split", "measured_range", "split"]

KNEE = 0.05
"""Brightness at which the scale changes from linear to logarithmic, as a part of the image's range."""
BINS = 512
PERCENTILES = (0.1, 99.9)
SAMPLES = 2**20
"""Voxels for percentiles. Their error is below 0.1 percentage points."""


class LogScale(NamedTuple):
    """``log(1 + (x - low) / (KNEE * (high - low)))``: independent of offset and gain of the camera, for all pixel types."""

    low: float
    high: float

    @property
    def unit(self) -> float:
        return KNEE * (self.high - self.low)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels of any real type as a new float32 array >= 0. NaN counts as darkest."""
        # fmax and fmin ignore NaN.
        values: np.ndarray = np.fmax(pixels, np.float32(self.low), dtype=np.float32)
        np.fmin(values, np.finfo(np.float32).max, out=values)
        values -= np.float32(self.low)
        values /= np.float32(self.unit)
        np.log1p(values, out=values)
        return values

    def of(self, value: float) -> float:
        """Return a gray value on the scale."""
        return math.log1p(max(value - self.low, 0.0) / self.unit)

    def of_many(self, values: np.ndarray) -> np.ndarray:
        """Return gray values on the scale as float64."""
        return np.log1p(np.maximum(values - self.low, 0.0) / self.unit)

    def inverse(self, value: np.ndarray | float) -> np.ndarray:
        """Return the gray values of values on the scale."""
        return self.low + self.unit * np.expm1(np.asarray(value, np.float64))


def measured_range(
    blocks: Sequence[np.ndarray], low: float | None = None, high: float | None = None
) -> tuple[float, float]:
    """Return the lowest and highest ordinary gray value of an image (0.1 and 99.9 percent), or what the user set."""
    return measure_range(blocks, PERCENTILES, low, high, SAMPLES)


class Split(NamedTuple):
    """Threshold and mean background, in gray values."""

    threshold: float
    background: float


def split(
    blocks: Sequence[np.ndarray],
    scale: LogScale,
    measured: Callable[[np.ndarray], np.ndarray],
    threshold: float | None = None,
) -> Split:
    """Measure Otsu's threshold and the background of a whole image, block by block to save memory.

    Parameters
    ----------
    blocks : sequence of numpy.ndarray
    scale : LogScale
    measured : callable
        Turns a block into the values that the model compares with the threshold, on the log scale.
    threshold : float, optional
        Threshold that the user set, in gray values. Then only the background below it is measured.
    """
    top = scale.of(scale.high) * 1.5
    counts = np.zeros(BINS, np.int64)
    for block in blocks:
        values = measured(block)
        counts += np.histogram(np.clip(values, 0, top), bins=BINS, range=(0, top))[0]
    centers = (np.arange(BINS) + 0.5) * (top / BINS)
    cut = otsu(counts, centers) if threshold is None else scale.of(threshold)
    below = counts * (centers <= cut)
    mean = float((below * centers).sum() / below.sum()) if below.sum() else 0.0
    return Split(
        float(scale.inverse(cut)) if threshold is None else threshold,
        float(scale.inverse(mean)),
    )
