"""Number the objects: join labels by rule and by decision, and give each object one number. No voxel is read or written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from napari_blockbuster.geometry.components import connected_components
from napari_blockbuster.stage.tables.label_table import LabelTable

from .assignment import Merge, MergeSettings
from .pairs import PairOfLabels, ordered
from .rules import DEFAULT_MIN_IOU, agreement, check_rule, joined_by_rule

__all__ = ["merge_labels"]


def merge_labels(
    evidence: np.ndarray,
    labels: LabelTable,
    *,
    rule: str = "overlap",
    min_iou: float | None = None,
    connectivity: int = 1,
    cut: Iterable[PairOfLabels] = (),
    join: Iterable[PairOfLabels] = (),
    sequential: bool = True,
    remove: Iterable[tuple[int, int]] = (),
) -> Merge:
    """Decide which labels are one object and number the objects.

    Parameters
    ----------
    evidence : numpy.ndarray
        Rows of `napari_blockbuster.stage.seams.evidence.evidence_dtype`.
    labels : LabelTable
        The labels of each tile of the grid.
    rule : {"overlap", "face", "touch", "none"}
        See `napari_blockbuster.merge.rules`.
    min_iou : float, optional
        Threshold of the rules ``overlap`` and ``face``, from 0 to 1; None for the rule's default.
    connectivity : int, default 1
        For ``touch``: 1 joins labels whose voxels share a face, 2 an edge, 3 a corner.
    cut, join : iterable of ((tile, id), (tile, id))
        Pairs that are kept apart or joined regardless of the rule. ``join`` may name any two labels.
    sequential : bool, default True
        Number the objects 1..n. Otherwise an object keeps the number of its first label among all labels.

    remove : iterable of (tile, id)
        Labels that become background, at any rule and threshold.

    Returns
    -------
    Merge

    Raises
    ------
    ValueError
        If the rule is unknown, the threshold is outside 0..1, the connectivity is outside 1..3, or a label does not exist.

    Notes
    -----
    Uses `scipy.sparse.csgraph.connected_components`. Time is linear in labels and pairs.
    """
    check_rule(rule, min_iou, connectivity)
    threshold = DEFAULT_MIN_IOU.get(rule, 0.0) if min_iou is None else float(min_iou)
    seams = evidence[evidence["low_id"] > 0]
    cut, join = tuple(ordered(p) for p in cut), tuple(ordered(p) for p in join)
    low, high = (labels.numbers(seams[side], seams[f"{side}_id"]) for side in ("low", "high"))
    extra_low, extra_high = _numbers_of(labels, join)
    score = agreement(rule, seams, labels) if rule in DEFAULT_MIN_IOU else np.zeros(0)
    joined = joined_by_rule(rule, seams, threshold, connectivity, score)
    joined |= _named(low, high, extra_low, extra_high)
    joined &= ~_named(low, high, *_numbers_of(labels, cut))
    n_labels = int(labels.offsets[-1])
    component = _ordered_components(n_labels, np.append(low[joined], extra_low), np.append(high[joined], extra_high))
    removed = tuple(sorted({(int(tile), int(label)) for tile, label in remove}))
    kept = np.ones(n_labels, bool)
    kept[_number_of(labels, removed)] = False
    ids = component + 1 if sequential else _first_members(component, int(component.max(initial=-1)) + 1)[component] + 1
    objects = np.unique(ids[kept])
    new_ids = np.zeros(n_labels + 1, id_dtype(n_labels))
    new_ids[1:][kept] = np.searchsorted(objects, ids[kept]) + 1 if sequential else ids[kept]
    n_objects = len(objects)
    settings = MergeSettings(rule, threshold, connectivity, cut, join, sequential, removed)
    return Merge(settings, n_objects, seams, joined, score, labels, new_ids)


def id_dtype(highest: int) -> type[np.unsignedinteger]:
    """Return uint32, or uint64 if the highest id needs it."""
    return np.uint32 if highest < 2**32 else np.uint64


def _number_of(labels: LabelTable, named: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the numbers of labels, given as (tile, id)."""
    numbers, _ = _numbers_of(labels, [(label, label) for label in named])
    return numbers


def _numbers_of(labels: LabelTable, pairs: Sequence[PairOfLabels]) -> tuple[np.ndarray, np.ndarray]:
    for tile, label in (end for pair in pairs for end in pair):
        if not (0 <= tile < len(labels.counts) and 1 <= label <= labels.counts[tile]):
            raise ValueError(
                f"Label {label} of tile {tile} does not exist. cut and join take pairs ((tile, id), (tile, id))."
            )
    table = np.array(pairs, np.int64).reshape(-1, 2, 2)
    return labels.numbers(table[:, 0, 0], table[:, 0, 1]), labels.numbers(table[:, 1, 0], table[:, 1, 1])


def _named(low: np.ndarray, high: np.ndarray, named_low: np.ndarray, named_high: np.ndarray) -> np.ndarray:
    """Whether each pair is one of the named pairs."""
    if not len(named_low):
        return np.zeros(len(low), bool)
    # Only pairs of two named labels are candidates, so few pairs need the exact test.
    candidates = np.flatnonzero(np.isin(low, named_low) & np.isin(high, named_high))
    wanted = set(zip(named_low.tolist(), named_high.tolist(), strict=True))
    result = np.zeros(len(low), bool)
    result[[i for i in candidates if (int(low[i]), int(high[i])) in wanted]] = True
    return result


def _ordered_components(n: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Component of each of n labels, numbered from 0 in the order of their first members."""
    component, n_components = connected_components(n, low, high)
    # The numbers must depend on the labels only, not on the order in which scipy visits them.
    first = _first_members(component, n_components)
    rank = np.empty(n_components, np.int64)
    rank[np.argsort(first)] = np.arange(n_components)
    numbered: np.ndarray = rank[component]
    return numbered


def _first_members(component: np.ndarray, n_components: int) -> np.ndarray:
    first = np.empty(n_components, np.int64)
    # The order is descending, so the smallest member remains.
    first[component[::-1]] = np.arange(len(component) - 1, -1, -1)
    return first
