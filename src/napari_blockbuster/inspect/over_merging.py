"""Find over-merging that no single pair shows: objects that are too large or too long, or that one weak link connects."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from napari_blockbuster.merge.pairs import described

from .alarm import Alarm, AlarmKind
from .merged_table import MergedTable

__all__ = ["over_alarms"]

LARGE_Z = 4.0
"""An object is far larger than its neighbors beyond this many robust standard deviations of log size ..."""
LARGE_RATIO = 2.5
"""... if it is also this many times as large as a typical object."""
LEAST_SPREAD, UNKNOWN_SPREAD = 0.1, 0.4
"""Standard deviation of log size: the smallest value used, and the value for too few objects."""
SUM_RATIO, SUM_SIZE = 1.5, 1.4
"""Largest size of an object, relative to a tile that saw all of it, and to a typical object."""
MOST_WORDS = 4
"""Largest number of signs in the reason of an alarm."""
RIM = 0.1
"""Share of a typical object. A smaller piece may be the rim of a neighbor."""
SPREAD_RATIO = 2.5
"""Largest length, in diameters of a compact object of the same size. The tiles between its ends prove the length."""
SAMPLE = 50_000
"""Approximate number of objects from which the spread of sizes is estimated."""
ENOUGH = 20
"""Smallest number of objects for an estimate."""
CONFLICT_SHARE = 0.25
"""Share of a typical object from which a tile's second label in an object counts as a separate object."""
CONFLICT_SIZE = 1.5
"""Smallest size of a conflict, in typical objects. A smaller object was probably split by the tile."""
INSIDE_SHARE, INSIDE_SIZE = 0.6, 0.1
"""Share of a label's band inside a larger object, and smallest size of the band in typical objects."""
WEAK = 0.5
"""A link is doubtful below this IoU ..."""
SIDE_SHARE = 0.6
"""... if both sides have at least this share of a typical object."""


@dataclass(frozen=True)
class _Sign:
    kind: AlarmKind
    weight: float
    words: str


def over_alarms(table: MergedTable, limit: int) -> list[Alarm]:
    """Find objects that look like several. Each gets one alarm with all its signs."""
    signs: dict[int, list[_Sign]] = defaultdict(list)
    for find in (_large, _beyond_sight, _spread, _conflicts, _contested):
        find(table, signs)
    links = _links(table, set(signs))
    for owner, link in links.items():
        if link.is_bridge and link.strength < WEAK and link.side >= SIDE_SHARE * table.typical[owner]:
            share = link.side / table.typical[owner]
            words = f"two parts, the smaller {_factor_text(share)} a typical object, are connected by one doubtful pair"
            signs[owner].append(_Sign("weak link", share, words))
    _forget_confirmed(table, signs)
    worst = sorted(signs, key=lambda owner: -max(s.weight for s in signs[owner]))[:limit]
    found = (_alarm(table, owner, signs[owner], links.get(owner)) for owner in worst)
    confirmed = set(table.merged.join)
    return [alarm for alarm in found if alarm.pair not in confirmed]


def _forget_confirmed(table: MergedTable, signs: dict[int, list[_Sign]]) -> None:
    """Forget signs of objects that a person joined: of these objects only another doubtful link is worth a question."""
    for owner in {table.merged.object_of(*end) for pair in table.merged.join for end in pair}:
        left = [sign for sign in signs.pop(owner, []) if sign.kind == "weak link"]
        if left:
            signs[owner] = left


# -------------------------------------------------------------------------------------------------------------- signs
def _large(table: MergedTable, signs: dict[int, list[_Sign]]) -> None:
    ratio = table.size / np.maximum(table.typical, 1)
    objects = table.merged.labels_table.objects
    whole = (table.members[table.ids] == 1) & ~objects["cut"] & (table.read > 0)
    few = np.flatnonzero(whole)
    # A sample is enough to estimate the spread.
    few = few[:: len(few) // SAMPLE + 1]
    logs = np.log(table.read[few] / table.typical[table.ids[few]])
    spread = UNKNOWN_SPREAD
    if len(logs) >= ENOUGH:
        spread = max(1.4826 * float(np.median(np.abs(logs - np.median(logs)))), LEAST_SPREAD)
    least = max(LARGE_RATIO, math.exp(LARGE_Z * spread))
    for owner in np.flatnonzero((table.members > 1) & (ratio > least)).tolist():
        words = f"it is {_factor_text(ratio[owner])} as large as the objects around it"
        signs[owner].append(_Sign("large", ratio[owner] - 1, words))


def _beyond_sight(table: MergedTable, signs: dict[int, list[_Sign]]) -> None:
    """Find objects larger than in a tile that saw all of them: this tile's object is part of two in another tile."""
    pieces = table.pieces
    ids = table.ids[pieces]
    entire = ~table.merged.labels_table.objects["cut"][pieces] & (table.core[pieces] >= RIM * table.typical[ids])
    pieces, ids = pieces[entire], ids[entire]
    order = pieces[np.argsort(-table.read[pieces], kind="stable")]
    least = np.full(table.n_rows, -1)
    # The order is descending, so the smallest remains.
    least[table.ids[order]] = order
    owners = np.unique(ids)
    ratio = table.size[owners] / np.maximum(table.read[least[owners]], 1)
    suspect = (ratio > SUM_RATIO) & (table.size[owners] > SUM_SIZE * table.typical[owners])
    for owner, times in zip(owners[suspect].tolist(), ratio[suspect].tolist(), strict=True):
        excess = table.size[owner] * (1 - 1 / times) / table.typical[owner]
        tile = table.tiles[least[owner]]
        words = f"it is {_factor_text(times)} as large as in tile {tile}, which saw all of it"
        signs[owner].append(_Sign("sum", excess, words))


def _spread(table: MergedTable, signs: dict[int, list[_Sign]]) -> None:
    """Find objects that span whole tiles, which makes them too long for their size."""
    ids = table.ids[table.pieces]
    owners, row = np.unique(ids, return_inverse=True)
    places = np.unravel_index(table.tiles[table.pieces], table.grid.grid_shape)
    length = np.zeros(len(owners))
    for axis in range(table.grid.separate_axes, table.grid.ndim):
        low, high = np.full(len(owners), len(table.grid)), np.zeros(len(owners), np.int64)
        np.minimum.at(low, row, places[axis])
        np.maximum.at(high, row, places[axis])
        length = np.maximum(length, (high - low - 1) * table.grid.tile_shape[axis])
    ratio = np.maximum(length, 0) / np.maximum(table.size[owners], 1) ** (1 / table.n_space)
    far = ratio > 0
    # If most objects are long (vessels, fibers), length is no sign.
    usual = float(np.median(ratio[far])) if far.sum() >= ENOUGH else 0.0
    for k in np.flatnonzero(ratio > max(SPREAD_RATIO, 3 * usual)).tolist():
        words = (
            f"it is at least {length[k]:.0f} voxels long, {_factor_text(ratio[k])} the diameter of a compact object of its "
            "size"
        )
        signs[int(owners[k])].append(_Sign("spread", ratio[k] - 1, words))


def _conflicts(table: MergedTable, signs: dict[int, list[_Sign]]) -> None:
    """Find several labels of one tile in one object: the merge joined them through another tile."""
    if table.merged.rule == "touch":
        # This is normal for touch: a vessel that leaves a tile and returns has two labels in it.
        return
    ids = table.ids[table.pieces]
    big = table.pieces[
        (table.core[table.pieces] >= CONFLICT_SHARE * table.typical[ids])
        & (table.size[ids] >= CONFLICT_SIZE * table.typical[ids])
    ]
    keys = table.ids[big] * len(table.grid) + table.tiles[big]
    groups, count = np.unique(keys, return_counts=True)
    smaller = np.zeros(len(groups))
    row = np.searchsorted(groups, keys)
    total, most = np.bincount(row, table.core[big], len(groups)), np.zeros(len(groups))
    np.maximum.at(most, row, table.core[big])
    smaller = total - most
    for k in np.flatnonzero(count > 1).tolist():
        owner, tile = divmod(int(groups[k]), len(table.grid))
        words = f"tile {tile} saw {count[k]} separate objects in it"
        signs[owner].append(_Sign("conflict", smaller[k] / table.typical[owner], words))


def _contested(table: MergedTable, signs: dict[int, list[_Sign]]) -> None:
    """Find objects in which the next tile saw another object that was not joined to it."""
    seams = table.merged.seams
    ids = [table.ids[end] for end in table.ends]
    low_inside = seams["low_band"] < seams["high_band"]
    outer, inner = np.where(low_inside, ids[1], ids[0]), np.where(low_inside, ids[0], ids[1])
    band = np.where(low_inside, seams["low_band"], seams["high_band"]).astype(np.float64)
    suspect = (
        (outer != inner)
        & (outer > 0)
        & (inner > 0)
        & (seams["shared"] >= INSIDE_SHARE * band)
        & (table.members[outer] > 1)
    )
    typical = table.typical[outer]
    suspect &= (band >= INSIDE_SIZE * typical) & (table.size[outer] >= CONFLICT_SIZE * typical)
    for row in np.flatnonzero(suspect).tolist():
        owner, side = int(outer[row]), "low" if low_inside[row] else "high"
        tile, label = int(seams[side][row]), int(seams[f"{side}_id"][row])
        words = f"tile {tile} saw a part of it as a separate object (label {label})"
        signs[owner].append(_Sign("conflict", table.size[owner] / table.typical[owner] - 1, words))


# -------------------------------------------------------------------------------------------------------------- links
@dataclass(frozen=True)
class _Link:
    row: int
    strength: float
    is_bridge: bool
    side: float


def _links(table: MergedTable, suspects: set[int]) -> dict[int, _Link]:
    """The weakest link of each suspect object, and of each object that a doubtful link connects.

    A link that holds the object together comes before a link that has alternatives.
    """
    merged = table.merged
    rows = np.flatnonzero(merged.joined & (table.ids[table.ends[0]] > 0))
    owner = table.ids[table.ends[0][rows]]
    wanted = np.zeros(table.n_rows, bool)
    doubtful = owner[table.strength[rows] < WEAK]
    wanted[doubtful[table.size[doubtful] >= 2 * SIDE_SHARE * table.typical[doubtful]]] = True
    wanted[list(suspects)] = True
    rows, owner = rows[wanted[owner]], owner[wanted[owner]]
    if not len(rows):
        return {}
    u, v = (ends[rows] for ends in table.ends)
    extra = _joined_far(table, u, v)
    side = _bridges(np.append(u, extra[0]), np.append(v, extra[1]), table.core)[: len(rows)]
    strength = table.strength[rows]
    # Bridges first; among them those with large parts on both sides, then the weakest, then the most central.
    heavy = side >= SIDE_SHARE * table.typical[owner]
    order = np.lexsort((-side, strength.round(2), ~heavy, side <= 0, owner))
    first = np.ones(len(order), bool)
    first[1:] = owner[order][1:] != owner[order][:-1]
    return {
        int(owner[k]): _Link(int(rows[k]), float(strength[k]), bool(side[k] > 0), float(side[k]))
        for k in order[first].tolist()
    }


def _joined_far(table: MergedTable, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels joined by hand, except those that these rows link: a link that exists twice would not be a bridge."""
    pairs = np.array(table.merged.join, np.int64).reshape(-1, 2, 2)
    labels = table.merged.labels_table
    low, high = (labels.numbers(pairs[:, k, 0], pairs[:, k, 1]) for k in (0, 1))
    far = ~np.isin(low * len(table.ids) + high, u * len(table.ids) + v)
    return low[far], high[far]


def _bridges(u: np.ndarray, v: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """For each edge, the weight of the lighter of the two sides that only this edge connects; 0 if it is not a bridge.

    Uses Tarjan's search without recursion, so chains may have any length.
    """
    nodes, ends = np.unique(np.concatenate([u, v]), return_inverse=True)
    a, b = ends[: len(u)], ends[len(u) :]
    order = np.argsort(ends, kind="stable")
    start = np.searchsorted(ends[order], np.arange(len(nodes) + 1)).tolist()
    edge = (order % len(u)).tolist() if len(u) else []
    far = np.concatenate([b, a])[order].tolist()
    below = weight[nodes].tolist()
    entered, low = [-1] * len(nodes), [0] * len(nodes)
    light = np.zeros(len(u))
    clock = 0
    for root in range(len(nodes)):
        if entered[root] >= 0:
            continue
        bridges: list[tuple[int, int]] = []
        entered[root] = low[root] = clock
        clock += 1
        stack = [(root, -1)]
        place = {root: start[root]}
        while stack:
            node, came = stack[-1]
            at = place[node]
            if at < start[node + 1]:
                place[node] = at + 1
                if edge[at] == came:
                    continue
                other = far[at]
                if entered[other] >= 0:
                    low[node] = min(low[node], entered[other])
                else:
                    entered[other] = low[other] = clock
                    clock += 1
                    place[other] = start[other]
                    stack.append((other, edge[at]))
                continue
            stack.pop()
            if stack:
                parent = stack[-1][0]
                low[parent] = min(low[parent], low[node])
                below[parent] += below[node]
                if low[node] > entered[parent]:
                    bridges.append((came, node))
        for came, node in bridges:
            light[came] = max(min(below[node], below[root] - below[node]), 1e-9)
    return light


# -------------------------------------------------------------------------------------------------------------- words
def _alarm(table: MergedTable, owner: int, signs: list[_Sign], link: _Link | None) -> Alarm:
    signs = sorted(signs, key=lambda sign: -sign.weight)
    numbers = table.pieces_of(owner)
    tiles = tuple(np.unique(table.tiles[numbers]).tolist())
    labels = [table.label(n) for n in numbers[:64].tolist()]
    words = list(dict.fromkeys(sign.words for sign in signs))
    if len(words) > MOST_WORDS:
        words[MOST_WORDS:] = [f"and {len(words) - MOST_WORDS} more signs"]
    reasons = "; ".join(words)
    text = f"{len(numbers)} pieces in {len(tiles)} tiles are one object: {reasons}"
    pair, place = None, table.center(tiles[0])
    if link is not None:
        pair, place = table.pair(link.row), table.place(link.row)
        labels = list(dict.fromkeys([*pair, *labels]))
        text += f". Weakest link: {described(pair)} (IoU {link.strength:.2f})"
        if link.is_bridge:
            text += f". Without it, a part {_factor_text(link.side / table.typical[owner])} a typical object separates"
    return Alarm(signs[0].kind, float(signs[0].weight), place, (owner,), tuple(labels), tiles, text + ".", pair)


def _factor_text(ratio: float) -> str:
    return f"{ratio:.1f} times"
