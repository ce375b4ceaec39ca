"""Find under-merging: objects that lost a part at a seam, and objects with a straight cut at a seam."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from napari_blockbuster.geometry.tiles import Neighbor
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.stage.store import StageStore

from .alarm import Alarm
from .merged_table import MergedTable, near_missing

__all__ = ["under_alarms"]

LOST_SHARE = 0.3
"""Smallest share of what a tile saw of an object that the merged object lacks ..."""
LOST_VOXELS = 0.2
"""... and its smallest size, in typical objects."""
SLIVER = 0.15
"""Share of a typical object. Anything smaller is a rim on which two tiles disagree."""
FACE_IOU = 0.5
"""Smallest IoU of two cross-sections at a seam that look like one object."""
SECTION = 0.5
"""Smallest cross-section at the seam, as a share of a typical one."""
CONTINUES = 0.3
"""Smallest share of the smaller band that both labels claim if a tile saw its object continue across the seam."""
ALONE = 0.7
"""Smallest share of an object's cross-section at a seam with nothing on the other side."""
DOUBLE = 1.6
"""In typical objects: from this size on, the tile may have fused two objects ..."""
ENTIRE = 0.8
"""... if the merged object is at least this large."""
DISCOUNT = 0.5
"""Factor on the severity in that case."""
CLEARLY = 0.3
"""Share of the lost part that a pair must share to be its place."""
ENOUGH = 30
"""Smallest number of cross-sections for a typical one."""
MOST_READ = 300
"""Largest number of alarms whose exact place is read from bands."""
WINDOW = 32
"""Number of tile pairs whose bands are read at a time."""


def under_alarms(table: MergedTable, is_staged: np.ndarray, store: StageStore | None, limit: int) -> list[Alarm]:
    """Find objects with a missing part and straight cuts. Each pair is named once."""
    rows = _free_rows(table)
    lost = _lost_parts(table, is_staged, store, rows, limit)
    named = {alarm.pair for alarm in lost} | set(table.merged.cut)
    shown = rows[table.shown[rows]]
    cuts = [alarm for alarm in _straight_cuts(table, shown, limit + len(named)) if alarm.pair not in named]
    if store is not None:
        cuts += _faces_alone(table, is_staged, store)
    return sorted(lost + cuts, key=lambda alarm: -alarm.severity)[:limit]


def _free_rows(table: MergedTable) -> np.ndarray:
    """Rows of the evidence whose labels are in different objects, or of which the filter removed one."""
    low, high = table.ends
    return np.flatnonzero(table.written[low] != table.written[high])


# --------------------------------------------------------------------------------------------------------- lost parts
@dataclass
class _Lost:
    owner: int
    label: int
    voxels: float
    row: int
    place: tuple[float, ...] = ()
    beyond: int = -1


def _lost_parts(
    table: MergedTable, is_staged: np.ndarray, store: StageStore | None, rows: np.ndarray, limit: int
) -> list[Alarm]:
    """Compare the size of an object as one tile saw it, beyond its core too, with its size as written by all tiles."""
    seen = table.read[table.witness]
    missing = seen - table.size
    enough = (missing > LOST_SHARE * seen) & (missing > LOST_VOXELS * table.typical)
    enough &= (table.members > 0) & (table.size > SLIVER * table.typical)
    owners = np.flatnonzero(enough)
    owners = owners[np.argsort(-missing[owners] / table.typical[owners], kind="stable")]
    partner = _best_free_row(table, rows, owners)
    missing_nearby = near_missing(table.grid, is_staged)
    found: list[Alarm] = []
    named = set(table.merged.cut)
    bands = _Bands(store, is_staged) if store is not None else None
    for k, owner in enumerate(owners.tolist()):
        if len(found) >= limit:
            break
        label = int(table.witness[owner])
        lost = _Lost(owner, label, float(missing[owner]), partner.get(owner, -1))
        pair = table.pair(lost.row) if lost.row >= 0 else None
        if pair in named:
            continue
        is_near_missing = bool(missing_nearby[table.tiles[label]])
        # Evidence has a place too, but does not show whether the object continues elsewhere.
        if bands is not None and k < MOST_READ and (pair is None or is_near_missing):
            located = _locate(table, lost, bands, is_near_missing)
        else:
            located = pair is not None and table.merged.seams["shared"][lost.row] > CLEARLY * lost.voxels
        if is_near_missing and not located:
            # It probably continues in a tile that is skipped, or not segmented yet.
            continue
        if pair is not None:
            named.add(pair)
        found.append(_lost_alarm(table, lost, pair, float(seen[owner])))
    return found


def _best_free_row(table: MergedTable, rows: np.ndarray, owners: np.ndarray) -> dict[int, int]:
    """For each of these objects, the row with the strongest evidence for joining it to another."""
    wanted = np.zeros(table.n_rows, bool)
    wanted[owners] = True
    found: dict[int, tuple[float, int]] = {}
    seams = table.merged.seams
    for ends in table.ends:
        ids = table.ids[ends[rows]]
        mine = np.flatnonzero(wanted[ids])
        weight = seams["shared"][rows[mine]].astype(np.float64) + seams["contact"][rows[mine], 0]
        for owner, score, row in zip(ids[mine].tolist(), weight.tolist(), rows[mine].tolist(), strict=True):
            if score > found.get(owner, (0.0, -1))[0]:
                found[owner] = score, row
    return {owner: row for owner, (_, row) in found.items()}


def _locate(table: MergedTable, lost: _Lost, bands: _Bands, near_missing: bool) -> bool:
    """Find the face across which most of the object continues. Return False without a face or a staged tile behind it.

    Near a tile that is not staged, a tile that has a part of the object has lost nothing of it: the rest is probably there.
    """
    tile, label = table.label(lost.label)
    found_in = set(table.tiles[table.pieces_of(lost.owner)].tolist()) if near_missing else set()
    best = 0
    for neighbor, axis, side, band in bands.of(tile):
        if neighbor in found_in:
            continue
        depth = table.grid.depth(axis)
        own = max(depth, 1)
        beyond = band.take(range(own, band.shape[axis]) if side == "low" else range(depth), axis)
        inside = np.argwhere(beyond == np.uint32(label))
        if len(inside) > best:
            best, lost.beyond = len(inside), neighbor
            box = table.grid.band(table.grid[tile], axis, side)
            assert box is not None
            center = inside.mean(axis=0) + box.start
            core = table.grid[tile].core
            center[axis] = core.stop[axis] - 0.5 if side == "low" else core.start[axis] - 0.5
            lost.place = tuple(float(x) for x in center)
    return lost.beyond >= 0


def _lost_alarm(table: MergedTable, lost: _Lost, pair: PairOfLabels | None, seen: float) -> Alarm:
    tile, label = table.label(lost.label)
    share = lost.voxels / seen
    beyond = lost.beyond
    if pair is not None and beyond < 0:
        beyond = pair[1][0] if pair[0] == (tile, label) else pair[0][0]
    where = f"its border with tile {beyond}" if beyond >= 0 else "its border"
    text = f"Tile {tile} saw {lost.voxels:.0f} more voxels of it ({share:.0%}) beyond {where}. They were not joined: "
    objects, labels, tiles = [lost.owner], [(tile, label)], {tile}
    place = lost.place
    if pair is not None:
        other = pair[1] if pair[0] == (tile, label) else pair[0]
        text += f"label {other[1]} of tile {other[0]} lies there (IoU {table.strength[lost.row]:.2f})"
        text += "." if table.shown[lost.row] else ", but the filter removed it."
        place = place or table.place(lost.row)
        owners = [int(table.ids[end[lost.row]]) for end in table.ends]
        objects += [owner for owner in owners if owner not in (0, lost.owner)]
        labels = list(dict.fromkeys([*pair, (tile, label)]))
        tiles |= {pair[0][0], pair[1][0]}
    else:
        text += "the neighboring tile found no object there."
        tiles |= {lost.beyond} - {-1}
    typical = float(table.typical[lost.owner])
    severity = lost.voxels / typical
    if seen > DOUBLE * typical and table.size[lost.owner] > ENTIRE * typical:
        severity *= DISCOUNT
        text += f" Or tile {tile} fused two objects."
    return Alarm(
        "lost part",
        float(severity),
        place or table.center(tile),
        tuple(objects),
        tuple(labels),
        tuple(sorted(tiles)),
        text,
        pair,
    )


class _Bands:
    """Reads the bands of single tiles, and keeps the last few."""

    def __init__(self, store: StageStore, is_staged: np.ndarray) -> None:
        self._store, self._is_staged = store, is_staged
        self._kept: dict[int, list[tuple[int, int, str, np.ndarray]]] = {}

    def of(self, tile: int) -> list[tuple[int, int, str, np.ndarray]]:
        """(neighbor, axis, side, band) of each face of a tile; neighbor is -1 if it is not staged."""
        if tile not in self._kept:
            while len(self._kept) >= 16:
                self._kept.pop(next(iter(self._kept)))
            self._kept[tile] = list(self._read(tile))
        return self._kept[tile]

    def _read(self, tile: int) -> Iterator[tuple[int, int, str, np.ndarray]]:
        grid = self._store.grid
        staged = self._store.staged(tile)
        for axis, side in grid.band_keys:
            offset = [0] * grid.ndim
            offset[axis] = 1 if side == "low" else -1
            neighbor = grid.neighbor(tile, offset)
            if neighbor is not None and grid.depth(axis):
                known = neighbor if self._is_staged[neighbor] else -1
                yield known, axis, side, staged.band(axis, side)


# ------------------------------------------------------------------------------------------------------- straight cuts
def _sections(table: MergedTable) -> np.ndarray:
    """Typical cross-section at the seams across each axis, in voxels."""
    merged = table.merged
    typical = float(np.median(table.typical[table.members > 0]))
    found = np.full(table.grid.ndim, typical ** ((table.n_space - 1) / table.n_space))
    rows = merged.seams[merged.joined & table.shown]
    for axis in range(table.grid.separate_axes, table.grid.ndim):
        areas = np.minimum(rows["low_face"], rows["high_face"])[rows["axis"] == axis]
        if (areas > 0).sum() >= ENOUGH:
            found[axis] = np.median(areas[areas > 0])
    return found


def _straight_cuts(table: MergedTable, rows: np.ndarray, limit: int) -> list[Alarm]:
    """Find two objects that meet at a seam with the same outline."""
    seams = table.merged.seams[rows]
    face = seams["contact"][:, 0].astype(np.float64)
    low, high = seams["low_face"].astype(np.float64), seams["high_face"].astype(np.float64)
    iou = face / np.maximum(low + high - face, 1)
    suspect = (iou >= FACE_IOU) & (face >= SECTION * _sections(table)[seams["axis"]])
    # If both tiles saw beyond the seam and both objects end at it, the tissue has a border there.
    band = np.minimum(seams["low_band"], seams["high_band"])
    suspect &= (band == 0) | (seams["shared"] >= CONTINUES * band)
    low_end, high_end = (table.ids[end[rows]] for end in table.ends)
    smaller = np.minimum(table.size[low_end], table.size[high_end])
    share = smaller / table.typical[low_end]
    suspect &= share >= SLIVER
    worst = np.flatnonzero(suspect)
    worst = worst[np.argsort(-np.minimum(share[worst], 1), kind="stable")][:limit]
    found = []
    for k in worst.tolist():
        row = int(rows[k])
        pair = table.pair(row)
        tiles = pair[0][0], pair[1][0]
        text = (
            f"Objects of tiles {tiles[0]} and {tiles[1]} meet at the seam with the same outline "
            f"(IoU {iou[k]:.2f} over {face[k]:.0f} voxels), but were not joined. They may be one object."
        )
        owners, severity = (int(low_end[k]), int(high_end[k])), min(1.0, float(share[k]))
        found.append(Alarm("straight cut", severity, table.place(row), owners, pair, tiles, text, pair))
    return found


# ------------------------------------------------------------------------------------- without a halo: faces and bands
@dataclass(frozen=True)
class _Face:
    """One tile's plane at a seam, and the plane on the other side."""

    tile: int
    behind: int
    axis: int
    position: float
    own: np.ndarray
    other: np.ndarray

    @classmethod
    def both(cls, store: StageStore, pair: Neighbor) -> tuple[_Face, _Face]:
        """The seam between two tiles, seen from both sides."""
        low = store.read_band(pair.low, pair.axis, "low")
        high = store.read_band(pair.high, pair.axis, "high")
        position = store.grid[pair.high].core.start[pair.axis] - 0.5
        return (
            cls(pair.low, pair.high, pair.axis, position, low, high),
            cls(pair.high, pair.low, pair.axis, position, high, low),
        )


def _faces_alone(table: MergedTable, is_staged: np.ndarray, store: StageStore) -> list[Alarm]:
    """Find objects that end at a seam with a large cross-section and nothing behind it, across axes without a halo.

    With a halo, the tile has seen the object continue (`_lost_parts`). Without a halo, a band is a single plane of voxels.
    """
    grid, sections = store.grid, _sections(table)
    pairs = [
        p for p in grid.all_pairs() if p.is_face and not grid.depth(p.axis) and is_staged[p.low] and is_staged[p.high]
    ]
    found: list[Alarm] = []
    for start in range(0, len(pairs), WINDOW):
        for face in _faces(store, pairs[start : start + WINDOW]):
            found += _alone(table, face, float(sections[face.axis]))
    return found


def _faces(store: StageStore, pairs: list[Neighbor]) -> Iterator[_Face]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        for both in pool.map(lambda pair: _Face.both(store, pair), pairs):
            yield from both


def _alone(table: MergedTable, face: _Face, section: float) -> Iterator[Alarm]:
    area = np.bincount(face.own.reshape(-1)).astype(np.float64)
    area[0] = 0
    bare = np.bincount(face.own[face.other == 0].reshape(-1), minlength=len(area))
    offset = int(table.merged.labels_table.offsets[face.tile])
    for label in np.flatnonzero((area >= SECTION * section) & (bare >= ALONE * area)).tolist():
        owner = int(table.ids[offset + label - 1])
        if not owner:
            continue
        place = np.argwhere(face.own == label).mean(axis=0) + table.grid[face.tile].core.start
        place[face.axis] = face.position
        text = (
            f"Label {label} of tile {face.tile} ends at the seam with tile {face.behind} over {area[label]:.0f} voxels, "
            "and there is nothing on the other side."
        )
        severity = min(1.0, float(table.size[owner] / table.typical[owner]))
        where, tiles = tuple(float(x) for x in place), (face.tile, face.behind)
        yield Alarm("straight cut", severity, where, (owner,), ((face.tile, label),), tiles, text)
