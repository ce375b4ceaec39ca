"""Doubt about pairs of labels: how close a merge is to the opposite result."""

from __future__ import annotations

import numpy as np

from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.rules import band_iou, face_iou, why_lower

__all__ = ["doubt_of", "margin_text"]


def doubt_of(merged: Merge) -> np.ndarray:
    """Return the margin of each pair of a merge: float64, 0 is the most doubtful.

    The margin is the difference between agreement and threshold. Rules without a threshold take the IoU: low for a pair
    that is joined and agrees little, or is separate and agrees much. The margin is infinite for two labels that neither
    touch nor overlap: no threshold joins them.
    """
    seams = merged.seams
    iou = np.maximum(band_iou(seams), face_iou(seams))
    if len(merged.agreement) == len(seams):
        margin = np.abs(merged.agreement - merged.min_iou)
    else:
        margin = np.where(merged.joined, iou, 1 - iou)
    nothing = (iou == 0) & (seams["contact"].sum(axis=1) == 0)
    return np.where(nothing, np.inf, margin)


def margin_text(merged: Merge, row: int) -> str:
    """Return how the margin of a pair comes about, as one or two sentences; "" for rules without a threshold."""
    if len(merged.agreement) != len(merged.seams):
        return ""
    one, agreed = merged.seams[row : row + 1], float(merged.agreement[row])
    iou = float(max(band_iou(one)[0], face_iou(one)[0]))
    text = f"Agreement {agreed:.2f}, threshold {merged.min_iou:.2f}: margin {abs(agreed - merged.min_iou):.2f}."
    why = why_lower(merged.rule, merged.seams, merged.labels_table, row)
    return f"{text} The agreement is lower than the IoU ({iou:.2f}), because {why}." if why else text
