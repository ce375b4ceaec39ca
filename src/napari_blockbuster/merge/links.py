"""Links between the labels of merged objects: which pairs are one object, and what else holds two labels together."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from .assignment import Merge
from .pairs import PairOfLabels

__all__ = ["one_object", "other_links"]

SAME_SEAM, OTHER_SEAM, NO_SEAM = 1, 1_000, 1_000_000
"""Cost of cutting a link. A cut should follow one seam, and joins by hand are cut last."""


def one_object(merged: Merge) -> np.ndarray:
    """Return whether the two labels of each pair are one object, joined directly or through other labels: bool."""
    low, high = (merged.new_ids[numbers + 1] for numbers in _numbers(merged, merged.seams))
    return np.asarray(merged.joined | ((low == high) & (low > 0)))


def other_links(merged: Merge, pair: PairOfLabels) -> list[PairOfLabels]:
    """Return the pairs to cut in addition to a pair, so that its two labels become two objects.

    Parameters
    ----------
    merged : Merge
    pair : ((tile, id), (tile, id))
        Lower tile first.

    Returns
    -------
    list of pairs
        As few as possible, at the same seam if possible. Empty if nothing else connects the two labels, or if labels
        that were joined inside one tile do, which cannot be cut.
    """
    if not merged.is_one_object(pair):
        return []
    pairs, costs = _links(merged, pair)
    labels = {label: number for number, label in enumerate(dict.fromkeys(end for link in pairs for end in link))}
    if not all(end in labels for end in pair):
        return []
    graph = _graph([(labels[a], labels[b]) for a, b in pairs], costs, len(labels))
    source, sink = labels[pair[0]], labels[pair[1]]
    flow = maximum_flow(graph, source, sink).flow
    near = set(breadth_first_order(_positive(graph - flow), source, return_predecessors=False).tolist())
    if sink in near:
        return []
    found = [link for link in pairs if (labels[link[0]] in near) != (labels[link[1]] in near)]
    return [] if any(low[0] == high[0] for low, high in found) else found


def _links(merged: Merge, pair: PairOfLabels) -> tuple[list[PairOfLabels], list[int]]:
    """Return the links of a pair's object except its own, and their costs."""
    seams, whole = merged.seams, merged.object_of(*pair[0])
    low = merged.new_ids[_numbers(merged, seams)[0] + 1]
    rows = np.flatnonzero(merged.joined & (low == whole))
    row = merged.row_of(pair)
    found: dict[PairOfLabels, int] = {}
    for link in merged.join:
        if merged.object_of(*link[0]) == whole:
            found[link] = NO_SEAM
    for each in rows.tolist():
        seam = seams[each]
        link = (int(seam["low"]), int(seam["low_id"])), (int(seam["high"]), int(seam["high_id"]))
        found[link] = SAME_SEAM if row is not None and _same_seam(seams, each, row) else OTHER_SEAM
    found.pop(pair, None)
    return list(found), list(found.values())


def _same_seam(seams: np.ndarray, one: int, other: int) -> bool:
    axis = int(seams["axis"][one])
    at = [seams["position"][row][axis] for row in (one, other)]
    return axis == int(seams["axis"][other]) and abs(at[0] - at[1]) <= 1


def _numbers(merged: Merge, seams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = (merged.labels_table.numbers(seams[side], seams[f"{side}_id"]) for side in ("low", "high"))
    return low, high


def _graph(links: list[tuple[int, int]], costs: list[int], n: int) -> csr_array:
    ends = np.array(links).T
    both = np.concatenate([ends, ends[::-1]], axis=1)
    return csr_array((np.tile(np.array(costs, np.int32), 2), both), shape=(n, n), dtype=np.int32)


def _positive(residual: csr_array) -> csr_array:
    left = csr_array(residual)
    left.data[left.data < 0] = 0
    left.eliminate_zeros()
    return left
