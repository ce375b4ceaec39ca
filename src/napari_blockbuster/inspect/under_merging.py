"""Under-merging: objects that lost a part at a seam, and objects that two tiles cut straight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from napari_blockbuster.geometry.tiles import Neighbour
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.stage.store import StageStore

from .alarm import Alarm
from .merged_table import MergedTable

__all__ = ["under_alarms"]

LOST_SHARE = 0.3
"""Share of what a tile saw of an object that is missing from the merged one ..."""
LOST_VOXELS = 0.2
"""... and how much of a typical object that must be."""
SLIVER = 0.15
"""Of a typical object: less than this is no object but a rim that two tiles disagree on."""
FACE_IOU = 0.5
"""Agreement of two cross-sections that face each other across a seam, from which on they look like one object."""
SECTION = 0.5
"""Of a typical cross-section: what an object must show at the seam."""
GOES_ON = 0.3
"""Share of the smaller label's band that the other one claims where a tile saw its object go on through the seam."""
ALONE = 0.7
"""Share of an object's face at a seam behind which there is nothing."""
DOUBLE = 1.6
"""In typical objects: what a tile saw may as well be two of them that it took for one ..."""
ENTIRE = 0.8
"""... if what was merged is about an object already."""
DISCOUNT = 0.5
CLEARLY = 0.3
"""Of what is lost: what a pair must share to be where it went."""
ENOUGH = 30
MOST_READ = 300
"""So many alarms get their exact place from bands."""
WINDOW = 32
"""Pairs of tiles whose bands are read at a time."""


def under_alarms(table: MergedTable, there: np.ndarray, store: StageStore | None, limit: int) -> list[Alarm]:
    """Objects with a part missing, and straight cuts; a pair is named once."""
    rows = _free_rows(table)
    lost = _lost_parts(table, there, store, rows, limit)
    named = {alarm.pair for alarm in lost} | set(table.merged.cut)
    shown = rows[table.shown[rows]]
    cuts = [alarm for alarm in _straight_cuts(table, shown, limit + len(named)) if alarm.pair not in named]
    if store is not None:
        cuts += _faces_alone(table, there, store)
    return sorted(lost + cuts, key=lambda alarm: -alarm.severity)[:limit]


def _free_rows(table: MergedTable) -> np.ndarray:
    """Rows of the evidence whose labels ended up in two objects, or in an object and in what a filter left out."""
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
    table: MergedTable, there: np.ndarray, store: StageStore | None, rows: np.ndarray, limit: int
) -> list[Alarm]:
    """What a tile saw of an object, within and beyond its border, against what all tiles together wrote of it."""
    seen = table.read[table.witness]
    missing = seen - table.size
    enough = (missing > LOST_SHARE * seen) & (missing > LOST_VOXELS * table.typical)
    enough &= (table.members > 0) & (table.size > SLIVER * table.typical)
    owners = np.flatnonzero(enough)
    owners = owners[np.argsort(-missing[owners] / table.typical[owners], kind="stable")]
    partner = _best_free_row(table, rows, owners)
    gap = _beside_a_gap(table, there)
    found: list[Alarm] = []
    named = set(table.merged.cut)
    bands = _Bands(store, there) if store is not None else None
    for k, owner in enumerate(owners.tolist()):
        if len(found) >= limit:
            break
        label = int(table.witness[owner])
        lost = _Lost(owner, label, float(missing[owner]), partner.get(owner, -1))
        pair = table.pair(lost.row) if lost.row >= 0 else None
        if pair in named:
            continue
        beside_gap = bool(gap[table.tiles[label]])
        # Evidence tells the place as well, but not whether the object goes on elsewhere.
        if bands is not None and k < MOST_READ and (pair is None or beside_gap):
            located = _locate(table, lost, bands)
        else:
            located = pair is not None and table.merged.seams["shared"][lost.row] > CLEARLY * lost.voxels
        if beside_gap and not located:
            # Most likely it goes on where nothing is segmented yet.
            continue
        if pair is not None:
            named.add(pair)
        found.append(_lost_alarm(table, lost, pair, float(seen[owner])))
    return found


def _beside_a_gap(table: MergedTable, there: np.ndarray) -> np.ndarray:
    """Tiles that touch one that is not staged."""
    from scipy import ndimage

    spatial = [1 if axis < table.grid.separate_axes else 3 for axis in range(table.grid.ndim)]
    near = ndimage.maximum_filter((~there).reshape(table.grid.grid_shape), size=spatial)
    return np.asarray(near).reshape(-1)


def _best_free_row(table: MergedTable, rows: np.ndarray, owners: np.ndarray) -> dict[int, int]:
    """For each of these objects the row that comes closest to joining it with another."""
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


def _locate(table: MergedTable, lost: _Lost, bands: _Bands) -> bool:
    """Find the face through which most of the object goes on; False if there is none, or no staged tile behind it."""
    tile, label = table.label(lost.label)
    best = 0
    for neighbour, axis, side, band in bands.of(tile):
        depth = table.grid.depth(axis)
        own = max(depth, 1)
        beyond = band.take(range(own, band.shape[axis]) if side == "low" else range(depth), axis)
        inside = np.argwhere(beyond == np.uint32(label))
        if len(inside) > best:
            best, lost.beyond = len(inside), neighbour
            box = table.grid.band(table.grid[tile], axis, side)
            assert box is not None
            centre = inside.mean(axis=0) + box.start
            core = table.grid[tile].core
            centre[axis] = core.stop[axis] - 0.5 if side == "low" else core.start[axis] - 0.5
            lost.place = tuple(float(x) for x in centre)
    return lost.beyond >= 0


def _lost_alarm(table: MergedTable, lost: _Lost, pair: PairOfLabels | None, seen: float) -> Alarm:
    tile, label = table.label(lost.label)
    share = lost.voxels / seen
    beyond = lost.beyond
    if pair is not None and beyond < 0:
        beyond = pair[1][0] if pair[0] == (tile, label) else pair[0][0]
    where = f"its border with tile {beyond}" if beyond >= 0 else "its border"
    text = f"tile {tile} saw {lost.voxels:.0f} voxels more of it ({share:.0%}) beyond {where}, which were not joined: "
    objects, labels, tiles = [lost.owner], [(tile, label)], {tile}
    place = lost.place
    if pair is not None:
        other = pair[1] if pair[0] == (tile, label) else pair[0]
        text += f"label {other[1]} of tile {other[0]} lies there (IoU {table.strength[lost.row]:.2f})"
        text += "." if table.shown[lost.row] else ", and the filter left it out."
        place = place or table.place(lost.row)
        owners = [int(table.ids[end[lost.row]]) for end in table.ends]
        objects += [owner for owner in owners if owner not in (0, lost.owner)]
        labels = list(dict.fromkeys([*pair, (tile, label)]))
        tiles |= {pair[0][0], pair[1][0]}
    else:
        text += "the tile beyond found no object there."
        tiles |= {lost.beyond} - {-1}
    typical = float(table.typical[lost.owner])
    severity = lost.voxels / typical
    if seen > DOUBLE * typical and table.size[lost.owner] > ENTIRE * typical:
        severity *= DISCOUNT
        text += f" Or tile {tile} took two objects for one."
    return Alarm(
        "lost part",
        float(severity),
        place or table.centre(tile),
        tuple(objects),
        tuple(labels),
        tuple(sorted(tiles)),
        text,
        pair,
    )


class _Bands:
    """Bands of single tiles, the last few kept: alarms of one tile come one after another only by chance."""

    def __init__(self, store: StageStore, there: np.ndarray) -> None:
        self._store, self._there = store, there
        self._kept: dict[int, list[tuple[int, int, str, np.ndarray]]] = {}

    def of(self, tile: int) -> list[tuple[int, int, str, np.ndarray]]:
        """(neighbour or -1 if it is not staged, axis, side, band) of each face of a tile."""
        if tile not in self._kept:
            while len(self._kept) >= 16:
                self._kept.pop(next(iter(self._kept)))
            self._kept[tile] = list(self._read(tile))
        return self._kept[tile]

    def _read(self, tile: int) -> Iterator[tuple[int, int, str, np.ndarray]]:
        grid = self._store.grid
        for axis, side in self._store.band_keys:
            offset = [0] * grid.ndim
            offset[axis] = 1 if side == "low" else -1
            neighbour = grid.neighbour(tile, offset)
            if neighbour is not None and grid.depth(axis):
                known = neighbour if self._there[neighbour] else -1
                yield known, axis, side, self._store.read_band(grid[tile], axis, side)


# ------------------------------------------------------------------------------------------------------- straight cuts
def _sections(table: MergedTable) -> np.ndarray:
    """A typical cross-section at the seams across each axis, in voxels."""
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
    """Two objects that face each other across a seam with one outline."""
    seams = table.merged.seams[rows]
    face = seams["contact"][:, 0].astype(np.float64)
    low, high = seams["low_face"].astype(np.float64), seams["high_face"].astype(np.float64)
    iou = face / np.maximum(low + high - face, 1)
    suspect = (iou >= FACE_IOU) & (face >= SECTION * _sections(table)[seams["axis"]])
    # Where both tiles saw beyond the seam and both let their object end at it, the tissue does have a border there.
    band = np.minimum(seams["low_band"], seams["high_band"])
    suspect &= (band == 0) | (seams["shared"] >= GOES_ON * band)
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
            f"objects of tiles {tiles[0]} and {tiles[1]} end face to face at the seam with the same outline "
            f"(IoU {iou[k]:.2f} over {face[k]:.0f} voxels), but were not joined: one object cut straight?"
        )
        owners, severity = (int(low_end[k]), int(high_end[k])), min(1.0, float(share[k]))
        found.append(Alarm("straight cut", severity, table.place(row), owners, pair, tiles, text, pair))
    return found


# ------------------------------------------------------------------------------------- without a halo: faces and bands
def _faces_alone(table: MergedTable, there: np.ndarray, store: StageStore) -> list[Alarm]:
    """Objects that end at a seam with a broad face and nothing behind it, across axes without a halo.

    With a halo their tile has seen them go on (`_lost_parts`); without one only the planes at the seam tell, a
    single plane of each tile.
    """
    grid, sections = store.grid, _sections(table)
    pairs = [p for p in grid.all_pairs() if p.is_face and not grid.depth(p.axis) and there[p.low] and there[p.high]]
    found: list[Alarm] = []
    for start in range(0, len(pairs), WINDOW):
        for pair, low, high in _planes(store, pairs[start : start + WINDOW]):
            for tile, mine, other in ((pair.low, low, high), (pair.high, high, low)):
                found += _alone(table, pair, tile, mine, other, float(sections[pair.axis]))
    return found


def _planes(store: StageStore, pairs: list[Neighbour]) -> Iterator[tuple[Neighbour, np.ndarray, np.ndarray]]:
    from concurrent.futures import ThreadPoolExecutor

    def read(pair: Neighbour) -> tuple[Neighbour, np.ndarray, np.ndarray]:
        low = store.read_band(store.grid[pair.low], pair.axis, "low")
        return pair, low, store.read_band(store.grid[pair.high], pair.axis, "high")

    with ThreadPoolExecutor(4) as pool:
        yield from pool.map(read, pairs)


def _alone(
    table: MergedTable, pair: Neighbour, tile: int, mine: np.ndarray, other: np.ndarray, section: float
) -> Iterator[Alarm]:
    area = np.bincount(mine.reshape(-1)).astype(np.float64)
    area[0] = 0
    bare = np.bincount(mine[other == 0].reshape(-1), minlength=len(area))
    offset = int(table.merged.labels_table.offsets[tile])
    behind = pair.high if tile == pair.low else pair.low
    for label in np.flatnonzero((area >= SECTION * section) & (bare >= ALONE * area)).tolist():
        owner = int(table.ids[offset + label - 1])
        if not owner:
            continue
        place = np.argwhere(mine == label).mean(axis=0) + table.grid[tile].core.start
        place[pair.axis] = table.grid[pair.high].core.start[pair.axis] - 0.5
        text = (
            f"label {label} of tile {tile} ends at the seam with tile {behind} over {area[label]:.0f} voxels, "
            "and there is nothing on the other side."
        )
        severity = min(1.0, float(table.size[owner] / table.typical[owner]))
        yield Alarm(
            "straight cut", severity, tuple(float(x) for x in place), (owner,), ((tile, label),), (tile, behind), text
        )
