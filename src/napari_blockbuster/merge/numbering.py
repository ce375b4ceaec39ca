"""From evidence to one numbering: which labels are one object, as a look-up table. No voxel is read or written here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from napari_blockbuster.stage.label_table import LabelTable

from .filters import ObjectFilter
from .holes import Filled
from .rules import DEFAULT_MIN_IOU, RULES, agreement, decide

__all__ = ["Merge", "PairOfLabels", "check_rule", "merge_labels"]

PairOfLabels = tuple[tuple[int, int], tuple[int, int]]
"""Two labels of two tiles: ``((tile, id), (tile, id))``."""


@dataclass(frozen=True, repr=False)
class Merge:
    """The outcome of a merge: a new id for each label of each tile.

    Attributes
    ----------
    rule, min_iou, connectivity : str, float, int
        What decided.
    n_objects : int
        Number of merged objects.
    n_labels : int
        Number of labels in all tiles before the merge.
    seams : numpy.ndarray
        The evidence (`napari_blockbuster.stage.seams.evidence_dtype`), rows of pairs only.
    joined : numpy.ndarray of bool
        For each row of `seams`, whether the pair was taken as one object.
    agreement : numpy.ndarray
        For each row of `seams`, the largest `min_iou` at which the rule still joins it (0: never; empty for rules
        without a threshold).
    labels_table : LabelTable
        The labels before the merge: counts, sizes, offsets.
    new_ids : numpy.ndarray
        uint32 (uint64 beyond 2^32 objects), ``n_labels + 1`` entries: the merged id of each label, 0 for background.
    cut, join : tuple
        Decisions of a person that overruled the rule.
    filter : ObjectFilter
        What was kept of the merged objects; `new_ids` is 0 for the rest.
    n_removed : int
        Merged objects that were not kept; `n_objects` does not count them.
    filled : Filled or None
        The holes that became part of an object; None where holes are left as they are.
    sequential : bool
        Objects are numbered 1..n. Otherwise an object has the number of its first label among all labels.
    """

    rule: str
    min_iou: float
    connectivity: int
    n_objects: int
    n_labels: int
    seams: np.ndarray
    joined: np.ndarray
    agreement: np.ndarray
    labels_table: LabelTable
    new_ids: np.ndarray
    cut: tuple[PairOfLabels, ...] = ()
    join: tuple[PairOfLabels, ...] = ()
    filter: ObjectFilter = ObjectFilter()
    n_removed: int = 0
    filled: Filled | None = None
    sequential: bool = True

    @property
    def n_merges(self) -> int:
        """How many labels were absorbed into another: labels minus objects."""
        return self.n_labels - self.n_objects - self.n_removed

    def __repr__(self) -> str:
        return (
            f"Merge(rule={self.rule!r}, n_labels={self.n_labels}, n_objects={self.n_objects}, seams={len(self.seams)})"
        )

    def table(self, tile: int) -> np.ndarray:
        """A tile's look-up table: ``table[local id]`` is the merged id, and ``table[0]`` is 0.

        Where something of the tile is filled, the pieces of its background follow after the labels, as in its regions
        (`napari_blockbuster.stage.regions`).
        """
        start, stop = self.labels_table.offsets[tile : tile + 2]
        own = self.new_ids[start + 1 : stop + 1]
        return np.concatenate([np.zeros(1, own.dtype), own, *([self.filled.table(tile)] if self.filled else [])])

    def fills(self, tile: int) -> bool:
        """Whether background of a tile became part of an object."""
        return self.filled is not None and len(self.filled.table(tile)) > 0

    def object_of(self, tile: int, label: int) -> int:
        """The merged id of a label of a tile; 0 for an object that was left out (and is not in a hole of another)."""
        return int(self.new_ids[self.labels_table.offsets[tile] + label])

    def is_one_object(self, pair: PairOfLabels) -> bool:
        """Whether two labels are part of the same object; False if a filter left them out."""
        low, high = (self.object_of(*end) for end in pair)
        return low == high > 0

    def row_of(self, pair: PairOfLabels) -> int | None:
        """The row of `seams` that holds a pair (lower tile first); None if the two do not meet at a seam."""
        (low, low_id), (high, high_id) = pair
        wanted = {"low": low, "low_id": low_id, "high": high, "high_id": high_id}
        found = np.flatnonzero(np.logical_and.reduce([self.seams[name] == value for name, value in wanted.items()]))
        return int(found[0]) if len(found) else None


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
    cut, join = tuple(_normalised(p) for p in cut), tuple(_normalised(p) for p in join)
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
    return Merge(
        rule,
        threshold,
        connectivity,
        n_objects,
        n_labels,
        seams,
        joined,
        score,
        labels,
        new_ids,
        cut,
        join,
        sequential=sequential,
    )


def id_dtype(highest: int) -> type[np.unsignedinteger]:
    """The smallest of uint32 and uint64 that holds an id."""
    return np.uint32 if highest < 2**32 else np.uint64


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


def _normalised(pair: Sequence[Sequence[int]]) -> PairOfLabels:
    (a, i), (b, k) = pair
    first, second = sorted([(int(a), int(i)), (int(b), int(k))])
    return first, second


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
