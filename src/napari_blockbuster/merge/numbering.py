"""Number the objects: join labels by rule and by decision, and give each object one number. No voxel is read or written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from napari_blockbuster.stage.label_table import LabelTable

from .assignment import Merge, MergeSettings
from .pairs import PairOfLabels, ordered
from .rules import DEFAULT_MIN_IOU, agreement, check_rule, decide

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
) -> Merge:
    """Decide which labels are one object and number the objects.

    Parameters
    ----------
    evidence : numpy.ndarray
        Rows of `napari_blockbuster.stage.seams.evidence_dtype`.
    labels : LabelTable
        The labels of each tile of the grid.
    rule : {"overlap", "face", "touch", "none"}
        See `napari_blockbuster.merge.rules`.
    min_iou : float, optional
        Threshold of the rules ``overlap`` and ``face``, from 0 to 1; None for the rule's default.
    connectivity : int, default 1
        For ``touch``: 1 joins labels whose voxels share a face, 2 an edge, 3 a corner.
    cut, join : iterable of ((tile, id), (tile, id))
        Pairs that are kept apart, or joined, whatever the rule says. ``join`` may name any two labels.
    sequential : bool, default True
        Number the objects 1..n. Otherwise an object keeps the number of its first label among all labels.

    Returns
    -------
    Merge

    Raises
    ------
    ValueError
        For an unknown rule, a threshold outside 0..1, a connectivity outside 1..3, or a pair that names no label.

    Notes
    -----
    Components are found by `scipy.sparse.csgraph.connected_components` over labels, in time linear in labels and pairs.
    """
    check_rule(rule, min_iou, connectivity)
    threshold = DEFAULT_MIN_IOU.get(rule, 0.0) if min_iou is None else float(min_iou)
    seams = evidence[evidence["low_id"] > 0]
    cut, join = tuple(ordered(p) for p in cut), tuple(ordered(p) for p in join)
    low, high = (labels.numbers(seams[side], seams[f"{side}_id"]) for side in ("low", "high"))
    extra_low, extra_high = _numbers_of(labels, join)
    score = agreement(rule, seams, labels) if rule in DEFAULT_MIN_IOU else np.zeros(0)
    joined = decide(rule, seams, threshold, connectivity, score)
    joined |= _named(low, high, extra_low, extra_high)
    joined &= ~_named(low, high, *_numbers_of(labels, cut))
    n_labels = int(labels.offsets[-1])
    component = _components(n_labels, np.append(low[joined], extra_low), np.append(high[joined], extra_high))
    n_objects = int(component.max(initial=-1)) + 1
    new_ids = np.zeros(n_labels + 1, id_dtype(n_labels))
    new_ids[1:] = component + 1 if sequential else _first_members(component, n_objects)[component] + 1
    settings = MergeSettings(rule, threshold, connectivity, cut, join, sequential)
    return Merge(settings, n_objects, seams, joined, score, labels, new_ids)


def id_dtype(highest: int) -> type[np.unsignedinteger]:
    """The smallest of uint32 and uint64 that holds an id."""
    return np.uint32 if highest < 2**32 else np.uint64


def _numbers_of(labels: LabelTable, pairs: Sequence[PairOfLabels]) -> tuple[np.ndarray, np.ndarray]:
    for tile, label in (end for pair in pairs for end in pair):
        if not (0 <= tile < len(labels.counts) and 1 <= label <= labels.counts[tile]):
            raise ValueError(f"label {label} of tile {tile} does not exist: cut and join take ((tile, id), (tile, id))")
    table = np.array(pairs, np.int64).reshape(-1, 2, 2)
    return labels.numbers(table[:, 0, 0], table[:, 0, 1]), labels.numbers(table[:, 1, 0], table[:, 1, 1])


def _named(low: np.ndarray, high: np.ndarray, named_low: np.ndarray, named_high: np.ndarray) -> np.ndarray:
    """Which of the pairs are among the named ones."""
    if not len(named_low):
        return np.zeros(len(low), bool)
    # Only labels that are named at all can be in a named pair: the exact test is left for a handful.
    candidates = np.flatnonzero(np.isin(low, named_low) & np.isin(high, named_high))
    wanted = set(zip(named_low.tolist(), named_high.tolist(), strict=True))
    result = np.zeros(len(low), bool)
    result[[i for i in candidates if (int(low[i]), int(high[i])) in wanted]] = True
    return result


def _components(n: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Component of each of n labels, numbered from 0 in the order of their first members."""
    from scipy import sparse

    graph = sparse.coo_array((np.ones(len(low), bool), (low, high)), shape=(n, n))
    n_components, component = sparse.csgraph.connected_components(graph, directed=False)
    # The numbering follows from the labels, not from how scipy walks the graph.
    first = _first_members(component, n_components)
    rank = np.empty(n_components, np.int64)
    rank[np.argsort(first)] = np.arange(n_components)
    numbered: np.ndarray = rank[component]
    return numbered


def _first_members(component: np.ndarray, n_components: int) -> np.ndarray:
    first = np.empty(n_components, np.int64)
    # Written backwards, so that the smallest member is what stays.
    first[component[::-1]] = np.arange(len(component) - 1, -1, -1)
    return first
