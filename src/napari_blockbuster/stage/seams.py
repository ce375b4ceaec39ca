"""Evidence at seams: for each pair of labels that meet between two tiles, measurements of whether they are one object.

Evidence is computed from the stored bands and not from the labels, so that its cost grows with the area of the faces and not with
the volume of the tiles. The merge uses it to decide which labels to join.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from napari_blockbuster.geometry.tiles import Neighbour, TileGrid
from napari_blockbuster.machine.disk import damage_named, writing_to
from napari_blockbuster.machine.files import npy_bytes, read_table, write_atomically
from napari_blockbuster.machine.ownership import Owner

from . import label_pairs
from .store import StageStore

__all__ = ["close_seams", "compare", "evidence_dtype", "gather_evidence", "in_order", "missing_pairs"]

BandReader = Callable[[int, int, str], np.ndarray]
"""``read(tile index, axis, side) -> band``"""


def evidence_dtype(ndim: int) -> np.dtype[np.void]:
    """Columns of the evidence table, one row for a pair of labels in two touching tiles.

    ========== ============ ==================================================================================
    low, high  uint32       indices of the two tiles; ``low`` comes first in the grid
    low_id     uint32       label in ``low`` (1..n); 0 in a row that records that the tiles were compared
    high_id    uint32       label in ``high``
    axis       int8         axis across which the tiles touch (the first one, where they share only an edge or corner)
    contact    uint32[3]    voxel pairs that touch across the seam by a face, by an edge only, by a corner only
    low_face   uint32       area of ``low_id`` in the last plane of its core at the seam; likewise ``high_face``
    shared     uint32       voxels of the band that both tiles gave to this pair
    low_band   uint32       voxels of ``low_id`` in the band, as its tile saw it; likewise ``high_band``
    position   float32[n]   center of the pair's contact, or of the shared voxels, in voxels of the image
    ========== ============ ==================================================================================

    Counts of the band and of the faces are 0 for tiles that share only an edge or a corner.
    """
    return np.dtype(
        [
            ("low", "<u4"),
            ("high", "<u4"),
            ("low_id", "<u4"),
            ("high_id", "<u4"),
            ("axis", "i1"),
            ("contact", "<u4", (3,)),
            ("low_face", "<u4"),
            ("high_face", "<u4"),
            ("shared", "<u4"),
            ("low_band", "<u4"),
            ("high_band", "<u4"),
            ("position", "<f4", (ndim,)),
        ]
    )


# ----------------------------------------------------------------------------------------------------- pairs of labels
class _Pairs(NamedTuple):
    """Co-occurring labels of two arrays: sorted keys, voxels of each pair, and the center of those voxels."""

    keys: np.ndarray
    voxels: np.ndarray
    center: np.ndarray


def _runs(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and lengths of the runs along the last axis in which both labels are constant.

    Labels form long runs, so that there are ten times fewer runs than voxels, or fewer.
    """
    flat_low, flat_high = low.reshape(-1), high.reshape(-1)
    change = np.empty(flat_low.size, bool)
    np.not_equal(flat_low[1:], flat_low[:-1], out=change[1:])
    change[1:] |= flat_high[1:] != flat_high[:-1]
    change[:: low.shape[-1]] = True
    starts = np.flatnonzero(change)
    return starts, np.diff(starts, append=flat_low.size)


def _count_pairs(low: np.ndarray, high: np.ndarray, origin: Sequence[float] | np.ndarray) -> _Pairs:
    """Count the pairs of labels, both not background, at the same place of two arrays of one shape."""
    low, high = np.ascontiguousarray(low), np.ascontiguousarray(high)
    if low.size == 0:
        return _Pairs(np.empty(0, np.uint64), np.empty(0, np.uint32), np.empty((0, low.ndim)))
    starts, lengths = _runs(low, high)
    a, b = low.reshape(-1)[starts], high.reshape(-1)[starts]
    both = (a != 0) & (b != 0)
    starts, lengths = starts[both], lengths[both]
    keys, inverse = np.unique(label_pairs.pack(a[both], b[both]), return_inverse=True)
    count = np.bincount(inverse, weights=lengths, minlength=len(keys))
    coordinates = np.array(np.unravel_index(starts, low.shape), np.float64).reshape(low.ndim, -1)
    coordinates[-1] += (lengths - 1) / 2
    sums = [np.bincount(inverse, weights=x * lengths, minlength=len(keys)) for x in coordinates]
    center = np.stack(sums, axis=-1) / np.maximum(count, 1)[:, None] + np.asarray(origin)
    return _Pairs(keys, count.astype(np.uint32), center)


# ------------------------------------------------------------------------------------------------- one pair of tiles
def compare(grid: TileGrid, pair: Neighbour, read: BandReader) -> np.ndarray:
    """Return the evidence between two touching tiles.

    Parameters
    ----------
    grid : TileGrid
    pair : Neighbour
    read : callable
        ``read(tile index, axis, side)`` gives a stored band.

    Returns
    -------
    numpy.ndarray
        Structured, see `evidence_dtype`; its first row has ids 0 and says that the pair was compared.
    """
    bands = read(pair.low, pair.axis, "low"), read(pair.high, pair.axis, "high")
    contacts = _contacts(grid, pair, *bands)
    band = _band_pairs(grid, pair, *bands) if pair.is_face else None
    sources = [found for _, found in contacts] + ([band] if band else [])
    keys = np.unique(np.concatenate([found.keys for found in sources]))
    table = np.zeros(1 + len(keys), evidence_dtype(grid.ndim))
    table["low"], table["high"], table["axis"] = pair.low, pair.high, pair.axis
    rows = table[1:]
    rows["low_id"], rows["high_id"] = label_pairs.unpack(keys)
    if band:
        place = np.searchsorted(keys, band.keys)
        rows["shared"][place] = band.voxels
        rows["position"][place] = band.center
        _fill_areas(grid, pair, rows, *bands)
    # The most direct contact gives the position: it lies in the seam, where users look for the marker.
    for order, found in reversed(contacts):
        place = np.searchsorted(keys, found.keys)
        rows["contact"][place, order - 1] += found.voxels
        rows["position"][place] = found.center
    return table


def _planes(grid: TileGrid, axis: int, low_band: np.ndarray, high_band: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the last plane of the low core and the first plane of the high core, each with the axis kept (extent 1)."""
    depth = grid.depth(axis)
    own = grid.axes[axis].own_depth - 1
    index: list[slice] = [slice(None)] * grid.ndim
    index[axis] = slice(own, own + 1)
    low = low_band[tuple(index)]
    index[axis] = slice(depth, depth + 1)
    return low, high_band[tuple(index)]


def _contacts(grid: TileGrid, pair: Neighbour, low_band: np.ndarray, high_band: np.ndarray) -> list[tuple[int, _Pairs]]:
    """Return the labels that touch across the seam, with the order of each contact (1: face, 2: edge, 3: corner).

    A voxel of the low tile touches voxels of the high tile that are one step further along the axes that separate the
    tiles, and at most one step aside along the others. Steps aside stay within the two tiles. Contacts beyond them belong to
    another pair of tiles, so that each contact is counted once.
    """
    low, high = _planes(grid, pair.axis, low_band, high_band)
    fixed = [axis for axis, o in enumerate(pair.offset) if o and axis != pair.axis]
    for axis in fixed:
        up = pair.offset[axis] > 0
        low = low.take([low.shape[axis] - 1 if up else 0], axis)
        high = high.take([0 if up else high.shape[axis] - 1], axis)
    origin = np.array(grid[pair.high].core.start, float)
    for axis, o in enumerate(pair.offset):
        # The contact lies on the boundary between the two voxels' centers.
        origin[axis] += -0.5 if o > 0 else grid[pair.high].core.shape[axis] - 0.5 if o < 0 else 0
    order = sum(map(abs, pair.offset))
    free = [axis for axis in range(grid.separate_axes, grid.ndim) if not pair.offset[axis]]
    found = []
    for steps in itertools.product((0, -1, 1), repeat=len(free)):
        low_index: list[slice] = [slice(None)] * grid.ndim
        high_index = list(low_index)
        shift = origin.copy()
        for axis, step in zip(free, steps, strict=True):
            low_index[axis] = slice(max(0, -step), low.shape[axis] - max(0, step))
            high_index[axis] = slice(max(0, step), low.shape[axis] - max(0, -step))
            shift[axis] += max(0, -step) + step / 2
        pairs = _count_pairs(low[tuple(low_index)], high[tuple(high_index)], shift)
        found.append((order + sum(map(abs, steps)), pairs))
    return sorted(found, key=lambda item: item[0])


def _band_pairs(grid: TileGrid, pair: Neighbour, low_band: np.ndarray, high_band: np.ndarray) -> _Pairs:
    """Return the labels that share voxels of the band that both tiles segmented (none without a halo)."""
    origin = grid.band(grid[pair.high], pair.axis, "high")
    assert origin is not None
    if grid.depth(pair.axis) == 0:
        low_band = low_band[:0]
        high_band = high_band[:0]
    return _count_pairs(low_band, high_band, origin.start)


def _fill_areas(grid: TileGrid, pair: Neighbour, rows: np.ndarray, low_band: np.ndarray, high_band: np.ndarray) -> None:
    low_plane, high_plane = _planes(grid, pair.axis, low_band, high_band)
    shared_band = grid.depth(pair.axis) > 0
    for side, plane, band in (("low", low_plane, low_band), ("high", high_plane, high_band)):
        ids = rows[f"{side}_id"]
        highest = int(ids.max(initial=0))
        rows[f"{side}_face"] = np.bincount(plane.reshape(-1), minlength=highest + 1)[ids]
        if shared_band:
            rows[f"{side}_band"] = np.bincount(band.reshape(-1), minlength=highest + 1)[ids]


# ------------------------------------------------------------------------------------------------------ many of them
def close_seams(
    store: StageStore, index: int, own: dict[tuple[int, str], np.ndarray] | None = None, owner: Owner | None = None
) -> int:
    """Compare a tile that was just staged with its staged neighbors, and write the evidence.

    Called by the worker that staged the tile, after the marker: of two tiles staged at the same time at least one sees the
    other. If both do, both write the same evidence, and `gather_evidence` takes it once.

    Parameters
    ----------
    store : StageStore
    index : int
        The tile.
    own : dict, optional
        The tile's bands, if they are still in memory.
    owner : Owner, optional
        Writes the evidence, unless its run was taken over.

    Returns
    -------
    int
        Number of pairs of tiles compared.
    """
    pairs = [pair for pair in store.grid.pairs(index) if store.is_staged(pair.high if pair.low == index else pair.low)]
    if pairs:
        memory = {(index, *key): band for key, band in (own or {}).items()}
        _write_evidence(store, index, _compare_all(store, pairs, memory), owner)
    return len(pairs)


def _compare_all(
    store: StageStore, pairs: Sequence[Neighbour], memory: dict[tuple[int, int, str], np.ndarray]
) -> np.ndarray:
    """Return the evidence of pairs of staged tiles. Bands in `memory` are not read again."""

    def read(tile: int, axis: int, side: str) -> np.ndarray:
        key = tile, axis, side
        if key not in memory:
            memory[key] = store.read_band(store.grid[tile], axis, side)
        return memory[key]

    return np.concatenate([compare(store.grid, pair, read) for pair in pairs])


def _write_evidence(store: StageStore, index: int, table: np.ndarray, owner: Owner | None) -> None:
    path = store.path("seams", index, "npy")
    if path.exists():
        table = np.concatenate([table, read_table(path, evidence_dtype(store.grid.ndim))])
    (owner.write if owner is not None else write_atomically)(path, npy_bytes(table), durable=False)


def gather_evidence(store: StageStore, staged: Iterable[int], without: Collection[int] = ()) -> np.ndarray:
    """Return the evidence on disk between staged tiles: each pair of tiles once, in the order of the grid.

    Files of the tiles in `without` are not read.
    """
    dtype = evidence_dtype(store.grid.ndim)
    indices = sorted(store.indices("seams").difference(without))
    tables = [read_table(store.path("seams", i, "npy"), dtype) for i in indices]
    table = np.concatenate([np.zeros(0, dtype), *tables])
    is_staged = np.zeros(len(store.grid), bool)
    is_staged[list(staged)] = True
    return in_order(table[is_staged[table["low"]] & is_staged[table["high"]]])


def in_order(table: np.ndarray) -> np.ndarray:
    """Return evidence with each pair of labels once, in the order of the grid."""
    order = np.lexsort((table["high_id"], table["low_id"], table["high"], table["low"]))
    table = table[order]
    fresh = np.ones(len(table), bool)
    if len(table):
        same = [table[name][1:] == table[name][:-1] for name in ("low", "high", "low_id", "high_id")]
        fresh[1:] = ~np.logical_and.reduce(same)
    evidence: np.ndarray = table[fresh]
    return evidence


def missing_pairs(store: StageStore, evidence: np.ndarray, staged: set[int]) -> dict[int, list[Neighbour]]:
    """Return pairs of staged tiles without evidence (their run was interrupted after the marker), by their low tile."""
    marks = evidence[evidence["low_id"] == 0]
    seen = set(zip(marks["low"].tolist(), marks["high"].tolist(), strict=True))
    missing: dict[int, list[Neighbour]] = {}
    for pair in store.grid.all_pairs():
        if pair.low in staged and pair.high in staged and (pair.low, pair.high) not in seen:
            missing.setdefault(pair.low, []).append(pair)
    return missing


def compare_missing(store: StageStore, pairs: Sequence[Neighbour], keep: Owner | None) -> np.ndarray:
    """Compare pairs of staged tiles (all with the same low tile). Their owner, if there is one, writes the evidence."""
    with damage_named(store.folder.parent):
        table = _compare_all(store, pairs, {})
    if keep is not None:
        with writing_to(store.folder):
            _write_evidence(store, pairs[0].low, table, keep)
    return table
