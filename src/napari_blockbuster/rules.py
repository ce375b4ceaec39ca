"""The rules that turn evidence into decisions, each a function of the evidence table alone.

``overlap``
    (default) filled in below
``face``
    The cross-sections of both labels in the two planes at the seam agree: IoU of at least `min_iou`, and each is the other's
    best partner. For runs without a halo.
``touch``
    Any contact counts. Exact for connected components, and right for masks and structures larger than the halo; it fuses
    cells that merely lie side by side at a seam.
``none``
    Nothing is joined: objects are cut along the seams.
"""

from __future__ import annotations

import numpy as np

__all__ = ["DEFAULT_MIN_IOU", "RULES", "band_iou", "decide", "face_iou"]

RULES = ("overlap", "face", "touch", "none")
DEFAULT_MIN_IOU = {"overlap": 0.3, "face": 0.3}


def band_iou(seams: np.ndarray) -> np.ndarray:
    """Agreement of each pair in the band that both tiles segmented: float64, 0 to 1."""
    return _iou(seams["shared"], seams["low_band"], seams["high_band"])


def face_iou(seams: np.ndarray) -> np.ndarray:
    """Agreement of each pair's cross-sections in the planes on both sides of the seam: float64, 0 to 1."""
    return _iou(seams["contact"][:, 0], seams["low_face"], seams["high_face"])


def decide(rule: str, seams: np.ndarray, min_iou: float, connectivity: int) -> np.ndarray:
    """Whether each pair is one object under a rule: bool, one entry per row of `seams`."""
    if rule == "none":
        return np.zeros(len(seams), bool)
    if rule == "touch":
        touching: np.ndarray = seams["contact"][:, :connectivity].any(axis=1)
        return touching
    iou = face_iou(seams) if rule == "face" else band_iou(seams)
    return (iou > 0) & (iou >= min_iou) & _mutual_best(seams, iou)


def _iou(shared: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    shared = shared.astype(np.float64)
    union = low + high.astype(np.float64) - shared
    return np.divide(shared, union, out=np.zeros(len(shared)), where=union > 0)


def _mutual_best(seams: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Whether each label of a pair is the other's best partner across their face (ties count for all)."""
    best = np.ones(len(seams), bool)
    for side, other in (("low", "high"), ("high", "low")):
        key = np.stack([seams[side], seams[f"{side}_id"], seams[other]]).astype(np.uint32)
        _, group = np.unique(key, axis=1, return_inverse=True)
        top = np.zeros(group.max(initial=-1) + 1)
        np.maximum.at(top, group, score)
        best &= score >= top[group]
    return best
