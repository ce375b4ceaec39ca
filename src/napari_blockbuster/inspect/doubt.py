"""Doubt about pairs of labels: how close a merge is to the opposite result."""

from __future__ import annotations

import numpy as np

from napari_blockbuster.merge.mapping import Merge
from napari_blockbuster.merge.rules import band_iou, face_iou

__all__ = ["doubt_of"]


def doubt_of(merged: Merge) -> np.ndarray:
    """Return the margin of each pair of a merge: float64, 0 is the most doubtful.

    The margin is the difference between agreement and threshold. Rules without a threshold take the IoU: low for a pair
    that is joined and agrees little, or is separate and agrees much.
    """
    if len(merged.agreement) == len(merged.seams):
        return np.asarray(np.abs(merged.agreement - merged.min_iou))
    iou = np.maximum(band_iou(merged.seams), face_iou(merged.seams))
    return np.asarray(np.where(merged.joined, iou, 1 - iou))
