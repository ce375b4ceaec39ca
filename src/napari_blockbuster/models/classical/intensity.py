"""One brightness scale for a whole image, on which a dim nucleus counts as much as a bright one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from napari_blockbuster.models.brightness import measure_range

from .filters import otsu

__all__ = ["LogScale", "Split", "measured_range", "split"]

KNEE = 0.05
"""Brightness, as a part of the image's range, below which the scale is linear and above which it is logarithmic."""
BINS = 512
PERCENTILES = (0.1, 99.9)
SAMPLES = 2**20
"""Voxels that percentiles are taken from: their error is below 0.1 percentage points."""


class LogScale(NamedTuple):
    """``log(1 + (x - low) / (KNEE * (high - low)))``: free of the camera's offset and gain, for all pixel types."""

    low: float
    high: float

    @property
    def unit(self) -> float:
        return KNEE * (self.high - self.low)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels of any real type to float32 >= 0, in a new array. NaN counts as darkest."""
        # fmax and fmin take the number where the other is NaN.
        values: np.ndarray = np.fmax(pixels, np.float32(self.low), dtype=np.float32)
        np.fmin(values, np.finfo(np.float32).max, out=values)
        values -= np.float32(self.low)
        values /= np.float32(self.unit)
        np.log1p(values, out=values)
        return values

    def of(self, value: float) -> float:
        """One gray value on the scale."""
        return math.log1p(max(value - self.low, 0.0) / self.unit)

    def of_many(self, values: np.ndarray) -> np.ndarray:
        """Gray values on the scale: float64."""
        return np.log1p(np.maximum(values - self.low, 0.0) / self.unit)

    def inverse(self, value: np.ndarray | float) -> np.ndarray:
        """Back to gray values."""
        return self.low + self.unit * np.expm1(np.asarray(value, np.float64))


def measured_range(
    blocks: Sequence[np.ndarray], low: float | None = None, high: float | None = None
) -> tuple[float, float]:
    """Return the lowest and highest ordinary gray value of an image (0.1 and 99.9 percent), or what the user set."""
    return measure_range(blocks, PERCENTILES, low, high, SAMPLES)


class Split(NamedTuple):
    """Where objects begin, and how bright the background is, in gray values."""

    threshold: float
    background: float


def split(
    blocks: Sequence[np.ndarray],
    scale: LogScale,
    measured: Callable[[np.ndarray], np.ndarray],
    threshold: float | None = None,
) -> Split:
    """Otsu's threshold of a whole image from blocks of it, block by block so that memory stays small.

    Parameters
    ----------
    blocks : sequence of numpy.ndarray
    scale : LogScale
    measured : callable
        Turns a block into what the model compares with the threshold, on the log scale.
    threshold : float, optional
        The user's own threshold in gray values; then only the background below it is measured.
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
