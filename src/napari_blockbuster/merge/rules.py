"""The merge rules. Each rule joins pairs of labels, given the table of evidence.

``overlap``
    (default) In the band that both tiles segmented, the smaller label lies mostly inside the larger one, and their IoU is at
    least `min_iou` (0.25). The required IoU grows with the size of the larger label, up to 0.55 for labels of twice the
    typical size or more, because a very large label is often two fused objects. Half of a fused pair has IoU 1/2 with the
    fusion, and half of a split object has IoU 1/2 with the whole; only size distinguishes the two. The required IoU does not
    grow if most of the smaller label lies beyond its own core, where the larger label is written: if that label is a fusion,
    it is already written, and joining only adds the rest of the object. If tiles have no common band (no halo), the rule
    ``face`` is used.
``face``
    The cross-sections of both labels in the two planes at the seam have an IoU of at least `min_iou` (0.3), and each label
    is the best partner of the other. For runs without a halo.
``touch``
    Any contact joins. Exact for connected components; suited to masks and to structures larger than the halo. It fuses cells
    that touch at a seam.
``none``
    Nothing is joined. Objects are cut at the seams.
"""

from __future__ import annotations

import numpy as np

from napari_blockbuster.stage.tables.label_table import LabelTable

__all__ = [
    "DEFAULT_MIN_IOU",
    "RULES",
    "agreement",
    "band_iou",
    "check_rule",
    "face_iou",
    "joined_by_rule",
    "why_lower",
]

RULES = ("overlap", "face", "touch", "none")
DEFAULT_MIN_IOU = {"overlap": 0.25, "face": 0.3}

LARGE_IOU = 0.55
"""Required IoU for very large labels, just above that of half an object with the whole."""
LARGE_RATIO = 2.0
"""Very large: as large as two typical objects."""
MOSTLY = 0.5
"""Share of the smaller label's band inside the larger label, and share of its voxels beyond its own core."""


def band_iou(seams: np.ndarray) -> np.ndarray:
    """IoU of each pair in the band that both tiles segmented: float64, 0 to 1."""
    return _iou(seams["shared"], seams["low_band"], seams["high_band"])


def face_iou(seams: np.ndarray) -> np.ndarray:
    """IoU of each pair's cross-sections in the two planes at the seam: float64, 0 to 1."""
    return _iou(seams["contact"][:, 0], seams["low_face"], seams["high_face"])


def agreement(rule: str, seams: np.ndarray, labels: LabelTable) -> np.ndarray:
    """Return the largest `min_iou` at which each pair is still joined: float64, 0 for never.

    It depends only on the evidence, so a new threshold takes one comparison.

    Parameters
    ----------
    rule : {"overlap", "face"}
    seams : numpy.ndarray
        `napari_blockbuster.stage.seams.evidence.evidence_dtype`.
    labels : LabelTable
        Sizes of the labels, for ``overlap``.
    """
    face = np.where(_mutual_best(seams, face_iou(seams)), face_iou(seams), 0.0)
    if rule == "face":
        return face
    has_band = (seams["low_band"] > 0) | (seams["high_band"] > 0)
    return np.where(has_band, _overlap_agreement(seams, labels), face)


def joined_by_rule(
    rule: str, seams: np.ndarray, min_iou: float, connectivity: int, score: np.ndarray | None
) -> np.ndarray:
    """Return whether a rule joins each pair: bool, one entry per row of `seams`.

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


def why_lower(rule: str, seams: np.ndarray, labels: LabelTable, row: int) -> str:
    """Return why the agreement of a pair is lower than its IoU, as the end of a sentence; "" if it is not.

    Parameters
    ----------
    rule, seams, labels
        As for `agreement`.
    row : int
        Of `seams`.
    """
    one = seams[row : row + 1]
    has_band = rule == "overlap" and bool(one["low_band"][0] or one["high_band"][0])
    if not has_band:
        best = _mutual_best(seams, face_iou(seams))[row]
        return "" if best or not face_iou(one)[0] else "one of the labels agrees better with another label"
    if one["shared"][0] < MOSTLY * min(one["low_band"][0], one["high_band"][0]):
        return "less than half of the smaller label lies inside the larger one"
    if _overlap_agreement(one, labels)[0] < band_iou(one)[0]:
        return "the larger label is larger than a typical object, so it may be two objects"
    return ""


def _overlap_agreement(seams: np.ndarray, labels: LabelTable) -> np.ndarray:
    # The required IoU is min_iou + (LARGE_IOU - min_iou) * large, with large from 0 (typical size) to 1 (twice that).
    # Solved for min_iou, this gives one number per pair.
    iou = band_iou(seams)
    large = np.where(_written_already(seams, labels), 0.0, _largeness(seams, labels))
    room = 1.0 - large
    solved = np.divide(iou - LARGE_IOU * large, room, out=np.zeros(len(iou)), where=room > 1e-9)
    score = np.where(iou >= LARGE_IOU, iou, np.maximum(solved, 0.0))
    # With a low threshold, neighbors that overlap slightly must not be joined.
    inside = seams["shared"] >= MOSTLY * np.minimum(seams["low_band"], seams["high_band"])
    return np.where(inside, score, 0.0)


def _largeness(seams: np.ndarray, labels: LabelTable) -> np.ndarray:
    """0 for a pair of typical size, 1 from twice that size, or if no typical size is known (to be safe)."""
    low, high = _objects(seams, labels)
    typical_low, typical_high = (labels.typical_size[seams[s]] for s in ("low", "high"))
    known = (typical_low > 0).astype(np.float64) + (typical_high > 0)
    typical = np.divide(typical_low + typical_high, known, out=np.zeros(len(seams)), where=known > 0)
    larger = np.maximum(low["read"], high["read"]).astype(np.float64)
    ratio = np.divide(larger, typical, out=np.full(len(seams), LARGE_RATIO), where=typical > 0)
    return np.asarray(np.clip((ratio - 1) / (LARGE_RATIO - 1), 0, 1))


def _written_already(seams: np.ndarray, labels: LabelTable) -> np.ndarray:
    """Whether most of the smaller label lies beyond its core, and the larger label is written there."""
    low, high = _objects(seams, labels)
    low_is_larger = low["read"] >= high["read"]
    smaller, larger = np.where(low_is_larger, high, low), np.where(low_is_larger, low, high)
    half = MOSTLY * smaller["read"]
    # If the read box cuts a label, its size beyond the box is unknown.
    return np.asarray((smaller["core"] < half) & (larger["core"] >= half) & ~smaller["cut"])


def _objects(seams: np.ndarray, labels: LabelTable) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `LabelTable.objects` for both labels of each pair."""
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
    """Check the settings of a rule.

    Raises
    ------
    ValueError
        If a value is not allowed. The message names the allowed values.
    """
    if rule not in RULES:
        raise ValueError(f"unknown merge rule {rule!r}. The rules are {', '.join(RULES)}")
    if min_iou is not None and not 0 <= min_iou <= 1:
        raise ValueError(f"min_iou is {min_iou}. It must be from 0 to 1")
    if connectivity not in (1, 2, 3):
        raise ValueError(f"connectivity is {connectivity}. It must be 1 (faces), 2 (edges) or 3 (corners)")
