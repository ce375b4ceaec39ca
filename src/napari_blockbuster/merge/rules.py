"""The rules that turn evidence into decisions, each a function of tables alone.

``overlap``
    (default) In the band that both tiles segmented, the smaller label lies mostly inside the larger, and their IoU reaches
    `min_iou` (0.25). The larger the bigger of the two is compared with a typical object, the more is asked, up to an IoU of
    0.55 from twice the typical size on: an outsized label is more often two objects fused than one. Half of a fused pair has
    IoU ½ with the fusion, and so has half of a split object with the whole; only size tells the two apart. No more is asked
    where most of the smaller one lies beyond its own core, in what the larger one has written: if that is a fusion, it
    stands already, and joining only brings the rest of the object to it. Where tiles have no band in common (no halo), the
    rule ``face`` decides.
``face``
    The cross-sections of both labels in the two planes at the seam agree: IoU of at least `min_iou` (0.3), and each is the
    other's best partner. For runs without a halo.
``touch``
    Any contact counts. Exact for connected components, and right for masks and structures larger than the halo; it fuses
    cells that merely lie side by side at a seam.
``none``
    Nothing is joined: objects are cut along the seams.
"""

from __future__ import annotations

import numpy as np

from napari_blockbuster.stage.label_table import LabelTable

__all__ = ["DEFAULT_MIN_IOU", "RULES", "agreement", "band_iou", "check_rule", "decide", "face_iou"]

RULES = ("overlap", "face", "touch", "none")
DEFAULT_MIN_IOU = {"overlap": 0.25, "face": 0.3}

LARGE_IOU = 0.55
"""Asked of outsized pairs: just above what half an object shares with a whole one."""
LARGE_RATIO = 2.0
"""Outsized: as large as two typical objects."""
MOSTLY = 0.5
"""More than half: of the smaller label's band inside the larger, or of its voxels beyond its own core."""


def band_iou(seams: np.ndarray) -> np.ndarray:
    """Agreement of each pair in the band that both tiles segmented: float64, 0 to 1."""
    return _iou(seams["shared"], seams["low_band"], seams["high_band"])


def face_iou(seams: np.ndarray) -> np.ndarray:
    """Agreement of each pair's cross-sections in the planes on both sides of the seam: float64, 0 to 1."""
    return _iou(seams["contact"][:, 0], seams["low_face"], seams["high_face"])


def agreement(rule: str, seams: np.ndarray, labels: LabelTable) -> np.ndarray:
    """The largest `min_iou` at which each pair is still joined: float64, 0 for a pair that never is.

    It depends on the evidence alone, so that a new threshold costs one comparison.

    Parameters
    ----------
    rule : {"overlap", "face"}
    seams : numpy.ndarray
        `napari_blockbuster.stage.seams.evidence_dtype`.
    labels : LabelTable
        Sizes of the labels, for ``overlap``.
    """
    face = np.where(_mutual_best(seams, face_iou(seams)), face_iou(seams), 0.0)
    if rule == "face":
        return face
    has_band = (seams["low_band"] > 0) | (seams["high_band"] > 0)
    return np.where(has_band, _overlap_agreement(seams, labels), face)


def decide(rule: str, seams: np.ndarray, min_iou: float, connectivity: int, score: np.ndarray | None) -> np.ndarray:
    """Whether each pair is one object under a rule: bool, one entry per row of `seams`.

    Parameters
    ----------
    rule, seams, min_iou, connectivity
        See `napari_blockbuster.merge.numbering.merge_labels`.
    score : numpy.ndarray or None
        `agreement` of the pairs; not used by ``touch`` and ``none``.
    """
    if rule == "none":
        return np.zeros(len(seams), bool)
    if rule == "touch":
        return np.asarray(seams["contact"][:, :connectivity].any(axis=1))
    assert score is not None
    return np.asarray((score > 0) & (score >= min_iou))


def _overlap_agreement(seams: np.ndarray, labels: LabelTable) -> np.ndarray:
    # A pair is asked for min_iou + (LARGE_IOU - min_iou) * large, where large runs from 0 (typical size) to 1 (twice that);
    # solved for min_iou, that is one number per pair.
    iou = band_iou(seams)
    large = np.where(_written_already(seams, labels), 0.0, _largeness(seams, labels))
    room = 1.0 - large
    solved = np.divide(iou - LARGE_IOU * large, room, out=np.zeros(len(iou)), where=room > 1e-9)
    score = np.where(iou >= LARGE_IOU, iou, np.maximum(solved, 0.0))
    # Keeps a low threshold from linking neighbours that merely overlap.
    inside = seams["shared"] >= MOSTLY * np.minimum(seams["low_band"], seams["high_band"])
    return np.where(inside, score, 0.0)


def _largeness(seams: np.ndarray, labels: LabelTable) -> np.ndarray:
    """0 for a pair of typical size, 1 from twice that on, or where no typical size is known (the careful side)."""
    low, high = _objects(seams, labels)
    typical_low, typical_high = (labels.typical_size[seams[s]] for s in ("low", "high"))
    known = (typical_low > 0).astype(np.float64) + (typical_high > 0)
    typical = np.divide(typical_low + typical_high, known, out=np.zeros(len(seams)), where=known > 0)
    larger = np.maximum(low["read"], high["read"]).astype(np.float64)
    ratio = np.divide(larger, typical, out=np.full(len(seams), LARGE_RATIO), where=typical > 0)
    return np.asarray(np.clip((ratio - 1) / (LARGE_RATIO - 1), 0, 1))


def _written_already(seams: np.ndarray, labels: LabelTable) -> np.ndarray:
    """Whether most of the smaller label lies beyond its core, and the larger one has written enough to hold that."""
    low, high = _objects(seams, labels)
    low_is_larger = low["read"] >= high["read"]
    smaller, larger = np.where(low_is_larger, high, low), np.where(low_is_larger, low, high)
    half = MOSTLY * smaller["read"]
    # Of a label that its read box cuts, nobody knows how much lies beyond.
    return np.asarray((smaller["core"] < half) & (larger["core"] >= half) & ~smaller["cut"])


def _objects(seams: np.ndarray, labels: LabelTable) -> tuple[np.ndarray, np.ndarray]:
    """The rows of `LabelTable.objects` of both labels of each pair."""
    low, high = (labels.objects[labels.numbers(seams[s], seams[f"{s}_id"])] for s in ("low", "high"))
    return low, high


def _iou(shared: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    shared = shared.astype(np.float64)
    union = low + high.astype(np.float64) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros(len(shared)), where=union > 0))


def _mutual_best(seams: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Whether each label of a pair is the other's best partner across their face (ties count for all)."""
    best = np.ones(len(seams), bool)
    for side, other in (("low", "high"), ("high", "low")):
        order = np.lexsort((seams[other], seams[f"{side}_id"], seams[side]))
        keys = [seams[name][order] for name in (side, f"{side}_id", other)]
        new = np.ones(len(order), bool)
        new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
        group = np.empty(len(order), np.int64)
        group[order] = np.cumsum(new) - 1
        top = np.zeros(int(new.sum()))
        np.maximum.at(top, group, score)
        best &= score >= top[group]
    return best


def check_rule(rule: str, min_iou: float | None, connectivity: int) -> None:
    """Refuse what no merge takes.

    Raises
    ------
    ValueError
        Saying what it may be.
    """
    if rule not in RULES:
        raise ValueError(f"unknown merge rule {rule!r}; the rules are {', '.join(RULES)}")
    if min_iou is not None and not 0 <= min_iou <= 1:
        raise ValueError(f"min_iou is {min_iou}; it is a share of the common area, from 0 to 1")
    if connectivity not in (1, 2, 3):
        raise ValueError(f"connectivity is {connectivity}; it must be 1 (faces), 2 (edges) or 3 (corners)")
