"""Pairs of labels, packed into one number each."""

from __future__ import annotations

import numpy as np

__all__ = ["pack", "unpack"]


def pack(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return pairs of uint32 as uint64, which sort by `low`, then by `high`."""
    packed: np.ndarray = (low.astype(np.uint64) << np.uint64(32)) | high.astype(np.uint64)
    return packed


def unpack(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two uint32 of each pair."""
    return (packed >> np.uint64(32)).astype(np.uint32), (packed & np.uint64(0xFFFFFFFF)).astype(np.uint32)
