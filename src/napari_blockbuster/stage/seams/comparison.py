"""Evidence at seams: for each pair of labels that meet between two tiles, measurements of whether they are one object.

Evidence is computed from the stored bands and not from the labels, so that its cost grows with the area of the faces and not with
the volume of the tiles. All pairs of a tile are compared at once: for small tiles, calls of numpy would take most of the time.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from napari_blockbuster.geometry.tiles import Neighbor, TileGrid
from napari_blockbuster.stage import label_pairs

__all__ = ["compare", "compare_all", "evidence_dtype"]


@functools.cache
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


RUN_VOXELS = 1 << 18
"""Voxels of which runs are found at once. Many small planes share the cost of a call, a large band is not copied."""

BandReader = Callable[[int, int, str], np.ndarray]
"""``read(tile index, axis, side) -> band``"""


def compare(grid: TileGrid, pair: Neighbor, read: BandReader) -> np.ndarray:
    """Return the evidence between two touching tiles; see `compare_all`."""
    return compare_all(grid, [pair], read)


def compare_all(grid: TileGrid, pairs: Sequence[Neighbor], read: BandReader) -> np.ndarray:
    """Return the evidence of pairs of touching tiles.

    Parameters
    ----------
    grid : TileGrid
    pairs : sequence of Neighbor
    read : callable
        ``read(tile index, axis, side)`` gives a stored band.

    Returns
    -------
    numpy.ndarray
        Structured, see `evidence_dtype`, pair after pair. The first row of each pair has ids 0 and says that it was compared.
    """
    blocks: list[_Block] = []
    bands = []
    for number, pair in enumerate(pairs):
        bands.append((read(pair.low, pair.axis, "low"), read(pair.high, pair.axis, "high")))
        blocks += _contact_blocks(grid, number, pair, *bands[-1])
        blocks += _band_blocks(grid, number, pair, *bands[-1])
    found = _Counted.of(blocks, len(pairs))
    table = np.zeros(len(pairs) + len(found.pair), evidence_dtype(grid.ndim))
    bounds = np.searchsorted(found.pair, np.arange(len(pairs) + 1))
    starts = bounds + np.arange(len(pairs) + 1)
    for name, values in (
        ("low", [pair.low for pair in pairs]),
        ("high", [pair.high for pair in pairs]),
        ("axis", [pair.axis for pair in pairs]),
    ):
        table[name] = np.repeat(np.array(values, np.int64), np.diff(starts))
    if len(found.pair):
        rows = np.arange(len(found.pair)) + found.pair + 1
        for name, column in found.columns().items():
            table[name][rows] = column
        for number, pair in enumerate(pairs):
            if pair.is_face:
                _fill_areas(grid, pair, table[starts[number] + 1 : starts[number + 1]], *bands[number])
    return table


# -------------------------------------------------------------------------------------------------- parts to be compared
class _Block(NamedTuple):
    """Labels of two tiles at places that correspond to each other, and where those places are.

    Attributes
    ----------
    pair : int
        Number of the pair of tiles.
    rank : int
        How direct the relation is: 0 for voxels that face each other, more for steps aside, `SHARED` for the same voxels.
    order : int
        Order of the contact (1: face, 2: edge, 3: corner); 0 for the same voxels.
    low, high : numpy.ndarray
        Labels, of the same shape.
    origin : tuple of float
        Place of the first voxel, in voxels of the image.
    """

    pair: int
    rank: int
    order: int
    low: np.ndarray
    high: np.ndarray
    origin: tuple[float, ...]


SHARED = -1
"""Rank of the same voxels: the last one."""


def _planes(
    grid: TileGrid, pair: Neighbor, low_band: np.ndarray, high_band: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the parts of two bands that touch: the last plane of the low core and the first plane of the high core.

    All axes are kept. Along axes that separate the tiles, the extent is 1.
    """
    axis = pair.axis
    own = grid.axes[axis].own_depth - 1
    depth = grid.depth(axis)
    low, high = [slice(None)] * grid.ndim, [slice(None)] * grid.ndim
    for other, o in enumerate(pair.offset):
        if other == axis:
            low[other], high[other] = slice(own, own + 1), slice(depth, depth + 1)
        elif o:
            low[other], high[other] = (slice(-1, None), slice(0, 1)) if o > 0 else (slice(0, 1), slice(-1, None))
    return low_band[tuple(low)], high_band[tuple(high)]


def _contact_blocks(
    grid: TileGrid, number: int, pair: Neighbor, low_band: np.ndarray, high_band: np.ndarray
) -> list[_Block]:
    """Return the voxels that touch across the seam.

    A voxel of the low tile touches voxels of the high tile that are one step further along the axes that separate the
    tiles, and at most one step aside along the others. Steps aside stay within the two tiles. Contacts beyond them belong to
    another pair of tiles, so that each contact is counted once.
    """
    low, high = _planes(grid, pair, low_band, high_band)
    if not (low.any() and high.any()):
        return []
    core = grid.core(pair.high)
    # The contact lies on the boundary between the two voxels' centers.
    place = [
        start + (-0.5 if o > 0 else extent - 0.5 if o < 0 else 0)
        for start, extent, o in zip(core.start, core.shape, pair.offset, strict=True)
    ]
    blocks = []
    for step, order, at_low, at_high, shift in _steps_aside(pair.offset, grid.separate_axes, low.shape):
        origin = tuple(map(sum, zip(place, shift, strict=True)))
        blocks.append(_Block(number, step, order, low[at_low], high[at_high], origin))
    return blocks


_Step = tuple[int, int, tuple[slice, ...], tuple[slice, ...], tuple[float, ...]]
"""Rank, order, the voxels of the low plane and of the high plane that are apart by this step, and its shift of the place."""


@functools.lru_cache(maxsize=256)
def _steps_aside(offset: tuple[int, ...], separate_axes: int, shape: tuple[int, ...]) -> list[_Step]:
    """Return the steps aside between two tiles, the most direct first."""
    choices = [(0, -1, 1) if not o and axis >= separate_axes else (0,) for axis, o in enumerate(offset)]
    steps = sorted(itertools.product(*choices), key=lambda step: sum(map(abs, step)))
    found = []
    for rank, step in enumerate(steps):
        at_low = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, shape, strict=True))
        at_high = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, shape, strict=True))
        if all(n > abs(s) for s, n in zip(step, shape, strict=True)):
            order = sum(map(abs, offset)) + sum(map(abs, step))
            found.append((rank, order, at_low, at_high, tuple(max(0, -s) + s / 2 for s in step)))
    return found


def _band_blocks(
    grid: TileGrid, number: int, pair: Neighbor, low_band: np.ndarray, high_band: np.ndarray
) -> list[_Block]:
    """Return the band that both tiles segmented: none without a halo, and none between tiles that share no face."""
    if not pair.is_face or not grid.depth(pair.axis) or not (low_band.any() and high_band.any()):
        return []
    origin = grid.band(grid[pair.high], pair.axis, "high")
    assert origin is not None
    return [_Block(number, SHARED, 0, low_band, high_band, tuple(map(float, origin.start)))]


# -------------------------------------------------------------------------------------------------------------- counting
class _Counted(NamedTuple):
    """Pairs of labels in the order of pairs of tiles, and what was counted for each.

    Attributes
    ----------
    pair, low, high : numpy.ndarray
        Number of the pair of tiles, and the two labels.
    orders : numpy.ndarray
        For each rank of each pair of tiles, the order of the contact.
    voxels : numpy.ndarray
        Voxels: one row for each rank.
    center : numpy.ndarray
        Center of the voxels of the most direct relation.
    """

    pair: np.ndarray
    low: np.ndarray
    high: np.ndarray
    orders: np.ndarray
    voxels: np.ndarray
    center: np.ndarray

    @classmethod
    def of(cls, blocks: Sequence[_Block], n_pairs: int) -> _Counted:
        """Count the pairs of labels, both not background, at the same place of the two parts of each block."""
        runs = _Runs.of(blocks)
        if not len(runs.low):
            none = np.zeros(0, np.int64)
            return cls(none, none, none, none, none, none)
        pair_of = np.array([block.pair for block in blocks])
        rank_of = np.array([block.rank for block in blocks])
        n_ranks = rank_of.max() + 2
        rank_of[rank_of == SHARED] = n_ranks - 1
        orders = np.zeros((n_pairs, n_ranks), np.int64)
        orders[pair_of, rank_of] = [block.order for block in blocks]
        # Low labels get other numbers in each pair of tiles, so that one sort brings all into the order of the table.
        beyond = np.zeros(n_pairs + 1, np.uint64)
        np.maximum.at(beyond, pair_of[runs.block] + 1, runs.low.astype(np.uint64) + np.uint64(1))
        begin = np.cumsum(beyond)
        keys = label_pairs.pack(runs.low + begin[pair_of[runs.block]].astype(np.uint32), runs.high)
        unique, inverse = np.unique(keys, return_inverse=True)
        group = rank_of[runs.block] * len(unique) + inverse
        size = n_ranks * len(unique)
        voxels = np.bincount(group, weights=runs.lengths, minlength=size).reshape(n_ranks, -1)
        most_direct = (voxels > 0).argmax(axis=0), np.arange(len(unique))
        sums = [np.bincount(group, weights=x * runs.lengths, minlength=size).reshape(n_ranks, -1) for x in runs.places]
        low, high = label_pairs.unpack(unique)
        pair = np.searchsorted(begin, low, side="right") - 1
        low = (low - begin[pair]).astype(np.uint32)
        origin = np.zeros((n_pairs, n_ranks, len(sums)))
        origin[pair_of, rank_of] = [block.origin for block in blocks]
        center = np.stack([each[most_direct] for each in sums], axis=-1) / voxels[most_direct][:, None]
        return cls(pair, low, high, orders, voxels, center + origin[pair, most_direct[0]])

    def columns(self) -> dict[str, np.ndarray]:
        """Return columns of the table of evidence."""
        orders = self.orders[self.pair].T
        contact = [np.where(orders == order, self.voxels, 0).sum(axis=0) for order in (1, 2, 3)]
        return {
            "low_id": self.low,
            "high_id": self.high,
            "contact": np.stack(contact, axis=-1),
            "shared": self.voxels[SHARED],
            "position": self.center,
        }


class _Runs(NamedTuple):
    """Runs along the last axis in which both labels are constant and not background.

    Labels form long runs, so that there are ten times fewer runs than voxels, or fewer.

    Attributes
    ----------
    block : numpy.ndarray
        Number of the block.
    low, high, lengths : numpy.ndarray
        The labels, and the number of voxels.
    places : list of numpy.ndarray
        For each axis, the center of the run in its block.
    """

    block: np.ndarray
    low: np.ndarray
    high: np.ndarray
    lengths: np.ndarray
    places: list[np.ndarray]

    @classmethod
    def of(cls, blocks: Sequence[_Block]) -> _Runs:
        """Return the runs of all blocks."""
        shapes = np.array([block.low.shape for block in blocks])
        found = [_runs(blocks[part], part.start) for part in _portions(blocks)]
        if not found:
            none = np.zeros(0, np.int64)
            return cls(none, none, none, none, [])
        block, low, high, lengths, local = (np.concatenate(each) for each in zip(*found, strict=True))
        places = []
        for extents in reversed(shapes[block].T):
            places.append((local % extents).astype(np.float64))
            local = local // extents
        places[0] += (lengths - 1) / 2
        return cls(block, low, high, lengths, places[::-1])


def _portions(blocks: Sequence[_Block]) -> Iterator[slice]:
    """Yield parts of a sequence of blocks with about `RUN_VOXELS` each."""
    begin = total = 0
    for number, block in enumerate(blocks):
        if total and total + block.low.size > RUN_VOXELS:
            yield slice(begin, number)
            begin, total = number, 0
        total += block.low.size
    if total:
        yield slice(begin, len(blocks))


def _runs(blocks: Sequence[_Block], number: int) -> tuple[np.ndarray, ...]:
    """Return the block, labels, length and place in its block of each run."""
    low = np.concatenate([block.low.reshape(-1) for block in blocks]) if len(blocks) > 1 else blocks[0].low.reshape(-1)
    high = (
        np.concatenate([block.high.reshape(-1) for block in blocks]) if len(blocks) > 1 else blocks[0].high.reshape(-1)
    )
    begin = np.cumsum([0, *(block.low.size for block in blocks)])
    change = np.empty(len(low), bool)
    np.not_equal(low[1:], low[:-1], out=change[1:])
    change[1:] |= high[1:] != high[:-1]
    for block, first in zip(blocks, begin.tolist(), strict=False):
        change[first : first + block.low.size : block.low.shape[-1]] = True
    starts = np.flatnonzero(change)
    lengths = np.diff(starts, append=len(low))
    both = (low[starts] != 0) & (high[starts] != 0)
    starts, lengths = starts[both], lengths[both]
    block = np.searchsorted(begin, starts, side="right") - 1
    return block + number, low[starts], high[starts], lengths, starts - begin[block]


def _fill_areas(grid: TileGrid, pair: Neighbor, rows: np.ndarray, low_band: np.ndarray, high_band: np.ndarray) -> None:
    """Count the voxels of each label in its plane at the seam, and in the band."""
    planes = _planes(grid, pair, low_band, high_band)
    for side, plane, band in zip(("low", "high"), planes, (low_band, high_band), strict=True):
        ids = rows[f"{side}_id"]
        highest = int(ids.max(initial=0))
        rows[f"{side}_face"] = np.bincount(plane.reshape(-1), minlength=highest + 1)[ids]
        if grid.depth(pair.axis):
            rows[f"{side}_band"] = np.bincount(band.reshape(-1), minlength=highest + 1)[ids]
