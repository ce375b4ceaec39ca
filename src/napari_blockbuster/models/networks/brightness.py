"""Brightness of a whole image, measured on blocks spread over it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["check_range", "measure_range", "sample_values"]

SAMPLES = 2**21
"""Voxels that are measured."""


def check_range(low: float | None, high: float | None) -> None:
    """Refuse gray values that the user set in the wrong order.

    Raises
    ------
    ValueError
        With both values.
    """
    if low is not None and high is not None and low >= high:
        raise ValueError(f"high is {high}. It must be above low, which is {low}")


def sample_values(blocks: Sequence[np.ndarray], most: int = SAMPLES) -> np.ndarray:
    """Return about `most` finite values, evenly spread over the blocks, as float64."""
    step = max(1, sum(block.size for block in blocks) // most)
    values = np.concatenate([block.ravel()[::step].astype(np.float64) for block in blocks] or [np.zeros(1)])
    finite: np.ndarray = values[np.isfinite(values)]
    return finite


def measure_range(
    blocks: Sequence[np.ndarray],
    percentiles: tuple[float, float],
    low: float | None = None,
    high: float | None = None,
    most: int = SAMPLES,
) -> tuple[float, float]:
    """Return the gray values between which an image lies.

    Parameters
    ----------
    blocks : sequence of numpy.ndarray
    percentiles : tuple of float
        Lowest and highest ordinary gray value, in percent.
    low, high : float, optional
        Values that the user set. They are returned as they are.
    most : int, optional
        Voxels to measure.

    Returns
    -------
    low, high : float
        `high` is above `low`, also for a blank image.
    """
    if low is not None and high is not None:
        return low, high
    values = sample_values(blocks, most)
    found = np.percentile(values, percentiles) if len(values) else (0.0, 0.0)
    start = float(found[0]) if low is None else low
    stop = float(found[1]) if high is None else high
    if start < stop:
        return start, stop
    # A blank image, or one that lies beyond the value that the user set.
    return (start, start + 1) if high is None else (high - 1, high)
