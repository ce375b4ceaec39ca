"""Pure integer geometry of a tiled image: tiles, halos, bands, neighbours.

Everything here is composed from one-dimensional pieces (`AxisTiling`), so that what holds along one axis holds along all
of them. Nothing in this module touches a pixel.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["DEFAULT_BAND_DEPTH", "Box", "Neighbour", "Tile", "TileGrid", "browse_chunk"]

DEFAULT_BAND_DEPTH = 16
"""At most how many voxels on each side of a face are compared: more says nothing new of objects of the usual size."""


@dataclass(frozen=True, slots=True)
class Box:
    """A half-open, axis-aligned box of voxels: ``start <= x < stop`` along each axis."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent along each axis, in voxels."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index into an array that starts at the origin."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def within(self, outer: Box) -> tuple[slice, ...]:
        """The box as an index into an array that holds `outer`."""
        return tuple(slice(a - o, b - o) for a, b, o in zip(self.start, self.stop, outer.start, strict=True))

    def intersection(self, other: Box) -> Box:
        """The voxels in both boxes (an empty box has a zero extent)."""
        start = tuple(map(max, self.start, other.start))
        stop = tuple(max(a, b) for a, b in zip(start, map(min, self.stop, other.stop), strict=True))
        return Box(start, stop)

    def contains(self, other: Box) -> bool:
        """Whether every voxel of `other` lies in this box."""
        return all(a <= c and d <= b for a, b, c, d in zip(self.start, self.stop, other.start, other.stop, strict=True))

    def __str__(self) -> str:
        return "[" + ", ".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True)) + "]"


@dataclass(frozen=True, slots=True)
class AxisTiling:
    """One axis cut into tiles of equal thickness; the last one may be thinner."""

    size: int
    tile: int
    halo: int

    def __len__(self) -> int:
        return -(-self.size // self.tile)

    def core(self, position: int) -> tuple[int, int]:
        start = position * self.tile
        return start, min(start + self.tile, self.size)

    def read(self, position: int) -> tuple[int, int]:
        # Clipped at the image, never padded: no voxel is read that the microscope did not record.
        start, stop = self.core(position)
        return max(start - self.halo, 0), min(stop + self.halo, self.size)


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of a `TileGrid`.

    Attributes
    ----------
    index : int
        Place in the grid's row-major order.
    position : tuple of int
        Place along each axis of the grid.
    core : Box
        The voxels that this tile alone writes.
    read : Box
        The core grown by the halo and clipped at the image: what the model sees.
    """

    index: int
    position: tuple[int, ...]
    core: Box
    read: Box

    @property
    def trim(self) -> tuple[slice, ...]:
        """The core as an index into an array of the read box's shape."""
        return self.core.within(self.read)

    def __str__(self) -> str:
        return f"tile {self.index} at {self.core}"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Two tiles that touch: `high` lies at ``low.position + offset``.

    The first non-zero entry of `offset` is +1, so that each pair of tiles is named once. `axis` is the place of that entry;
    a pair with a single non-zero entry shares a face, others only an edge or a corner.
    """

    low: int
    high: int
    offset: tuple[int, ...]

    @property
    def axis(self) -> int:
        return next(i for i, o in enumerate(self.offset) if o)

    @property
    def is_face(self) -> bool:
        return sum(map(abs, self.offset)) == 1


def _per_axis(value: int | Sequence[int], ndim: int, what: str) -> tuple[int, ...]:
    values = (value,) * ndim if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) != ndim:
        raise ValueError(
            f"{what} has {len(values)} entries {values} but the image has {ndim} axes; "
            f"give one number for all axes, or {ndim} of them"
        )
    return values


@dataclass(frozen=True)
class TileGrid:
    """An image cut into tiles whose cores partition it.

    Parameters
    ----------
    shape : sequence of int
        Shape of the image, in voxels.
    tile_shape : int or sequence of int
        Shape of a tile's core. Tiles at the far edge may be thinner; a tile larger than the image is cut to it.
    halo : int or sequence of int, default 0
        Context read on each side of a core, clipped at the image. At most the tile's own extent along an axis that has more
        than one tile, so that a read box reaches its direct neighbours only.
    separate_axes : int, default 0
        How many leading axes (time) are cut into single planes that are never neighbours.
    band_depth : int, default 16
        At most how many voxels on each side of a face are compared between the two tiles. Half the halo is compared if that is
        less: near its outer border a read box is where models err.

    Raises
    ------
    ValueError
        If a number is out of range; the message names the axis, the value and a remedy.

    Examples
    --------
    >>> grid = TileGrid((100, 100), 40, halo=8)
    >>> len(grid), grid.grid_shape
    (9, (3, 3))
    >>> str(grid[4].core), str(grid[4].read)
    ('[40:80, 40:80]', '[32:88, 32:88]')
    """

    shape: tuple[int, ...]
    tile_shape: tuple[int, ...]
    halo: tuple[int, ...] = (0,)
    separate_axes: int = 0
    band_depth: int = DEFAULT_BAND_DEPTH

    def __init__(
        self,
        shape: Sequence[int],
        tile_shape: int | Sequence[int],
        halo: int | Sequence[int] = 0,
        *,
        separate_axes: int = 0,
        band_depth: int = DEFAULT_BAND_DEPTH,
    ) -> None:
        shape = tuple(int(n) for n in shape)
        ndim = len(shape)
        tile = _per_axis(tile_shape, ndim, "tile_shape")
        reach = _per_axis(halo, ndim, "halo")
        if not 0 <= separate_axes < max(ndim, 1):
            raise ValueError(f"separate_axes is {separate_axes}: it must leave at least one spatial axis of {ndim}")
        tile = (1,) * separate_axes + tile[separate_axes:]
        reach = (0,) * separate_axes + reach[separate_axes:]
        for axis in range(ndim):
            _check_axis(axis, shape[axis], tile[axis], reach[axis])
        if band_depth < 0:
            raise ValueError(f"band_depth is {band_depth}; it must be 0 or more")
        # A single tile has no neighbour along that axis: a halo there would change nothing but must not be refused.
        tile = tuple(min(t, n) for t, n in zip(tile, shape, strict=True))
        reach = tuple(0 if t == n else h for h, t, n in zip(reach, tile, shape, strict=True))
        for name, value in (
            ("shape", shape),
            ("tile_shape", tile),
            ("halo", reach),
            ("separate_axes", separate_axes),
            ("band_depth", band_depth),
        ):
            object.__setattr__(self, name, value)

    # ---------------------------------------------------------------- tiles
    @property
    def ndim(self) -> int:
        return len(self.shape)

    @cached_property
    def axes(self) -> tuple[AxisTiling, ...]:
        return tuple(map(AxisTiling, self.shape, self.tile_shape, self.halo))

    @cached_property
    def grid_shape(self) -> tuple[int, ...]:
        """Number of tiles along each axis."""
        return tuple(map(len, self.axes))

    def __len__(self) -> int:
        return math.prod(self.grid_shape)

    def __getitem__(self, index: int) -> Tile:
        if not 0 <= index < len(self):
            raise IndexError(f"tile {index} does not exist: the grid has tiles 0 to {len(self) - 1}")
        position = self.position(index)
        core = tuple(zip(*(a.core(p) for a, p in zip(self.axes, position, strict=True)), strict=True))
        read = tuple(zip(*(a.read(p) for a, p in zip(self.axes, position, strict=True)), strict=True))
        return Tile(index, position, Box(*core), Box(*read))

    def __iter__(self) -> Iterator[Tile]:
        return (self[i] for i in range(len(self)))

    def position(self, index: int) -> tuple[int, ...]:
        """Grid position of a tile, from its row-major index."""
        position = []
        for n in reversed(self.grid_shape):
            index, p = divmod(index, n)
            position.append(p)
        return tuple(reversed(position))

    def index(self, position: Sequence[int]) -> int:
        """Row-major index of a tile, from its grid position."""
        index = 0
        for p, n in zip(position, self.grid_shape, strict=True):
            if not 0 <= p < n:
                raise IndexError(f"no tile at grid position {tuple(position)}: the grid is {self.grid_shape}")
            index = index * n + p
        return index

    def tile_at(self, voxel: Sequence[float]) -> Tile:
        """The tile whose core holds a voxel (clipped to the image)."""
        return self[
            self.index(
                [
                    min(max(int(x) // t, 0), n - 1)
                    for x, t, n in zip(voxel, self.tile_shape, self.grid_shape, strict=True)
                ]
            )
        ]

    def tiles_in(self, box: Box) -> list[int]:
        """Indices of the tiles whose cores meet a box, in row-major order."""
        indices: np.ndarray = np.zeros((), np.int64)
        for span, n in zip(self.spans(box), self.grid_shape, strict=True):
            indices = indices[..., None] * n + np.arange(span.start, span.stop)
        found: list[int] = indices.ravel().tolist()
        return found

    def spans(self, box: Box) -> list[range]:
        """Grid positions along each axis of the tiles whose cores meet a box."""
        return [
            range(max(a // t, 0), max(min(-(-b // t), n), 0))
            for a, b, t, n in zip(box.start, box.stop, self.tile_shape, self.grid_shape, strict=True)
        ]

    def nearest(self, box: Box, most: int) -> list[int]:
        """Indices of the tiles whose cores meet a box: those nearest to its middle, in that order, at most `most`."""
        indices: np.ndarray = np.zeros((), np.int64)
        distances: np.ndarray = np.zeros(())
        for span, n, tile, a, b in zip(
            self.spans(box), self.grid_shape, self.tile_shape, box.start, box.stop, strict=True
        ):
            positions = np.arange(span.start, span.stop)
            indices = indices[..., None] * n + positions
            distances = distances[..., None] + (positions - ((a + b) / 2 / tile - 0.5)) ** 2
        indices, distances = indices.ravel(), distances.ravel()
        if len(indices) > most:
            chosen = np.argpartition(distances, most)[:most]
            indices, distances = indices[chosen], distances[chosen]
        found: list[int] = indices[np.lexsort((indices, distances))].tolist()
        return found

    # ----------------------------------------------------------- neighbours
    @cached_property
    def offsets(self) -> tuple[tuple[int, ...], ...]:
        """The offsets of a tile's forward neighbours: half of the 3^n - 1 around it, faces first."""
        free = self.ndim - self.separate_axes
        zero = (0,) * free
        half = [o for o in itertools.product((-1, 0, 1), repeat=free) if o > zero]
        half.sort(key=lambda o: (sum(map(abs, o)), [-x for x in o]))
        return tuple((0,) * self.separate_axes + o for o in half)

    def neighbour(self, index: int, offset: Sequence[int]) -> int | None:
        """Index of the tile at ``position + offset``, or None outside the grid."""
        position = [p + o for p, o in zip(self.position(index), offset, strict=True)]
        if all(0 <= p < n for p, n in zip(position, self.grid_shape, strict=True)):
            return self.index(position)
        return None

    def face_neighbours(self, index: int) -> list[int]:
        """Tiles that share a face with a tile, along the last axis first, the one that comes after before the other."""
        found = []
        for axis in reversed(range(self.separate_axes, self.ndim)):
            for step in (1, -1):
                other = self.neighbour(index, [step if a == axis else 0 for a in range(self.ndim)])
                if other is not None:
                    found.append(other)
        return found

    def pairs(self, index: int) -> list[Neighbour]:
        """All pairs of touching tiles that `index` belongs to, as low or as high."""
        found = []
        for offset in self.offsets:
            high = self.neighbour(index, offset)
            if high is not None:
                found.append(Neighbour(index, high, offset))
            low = self.neighbour(index, [-o for o in offset])
            if low is not None:
                found.append(Neighbour(low, index, offset))
        return found

    def all_pairs(self) -> Iterator[Neighbour]:
        """Every pair of touching tiles, once."""
        for index in range(len(self)):
            for offset in self.offsets:
                high = self.neighbour(index, offset)
                if high is not None:
                    yield Neighbour(index, high, offset)

    # ---------------------------------------------------------------- bands
    def depth(self, axis: int) -> int:
        """Voxels on each side of a face that both of its tiles have segmented and compare."""
        return min(self.band_depth, -(-self.halo[axis] // 2))

    def band_thickness(self, axis: int) -> int:
        """Thickness of a stored band: at least the tile's own plane at the face."""
        depth = self.depth(axis)
        return max(depth, 1) + depth

    def band(self, tile: Tile, axis: int, side: str) -> Box | None:
        """What a tile stores beside a face of its core, or None at the image's edge.

        Parameters
        ----------
        tile : Tile
        axis : int
        side : {"low", "high"}
            The part that the tile plays at the face: ``"low"`` at its upper face, ``"high"`` at its lower face.

        Returns
        -------
        Box or None
            ``depth`` voxels on each side of the face (its own side: at least one), clipped at the image, over the tile's
            core along the other axes.
        """
        depth, own = self.depth(axis), max(self.depth(axis), 1)
        if side == "low":
            plane = tile.core.stop[axis]
            if plane == self.shape[axis]:
                return None
            start, stop = plane - own, plane + depth
        else:
            plane = tile.core.start[axis]
            if plane == 0:
                return None
            start, stop = plane - depth, plane + own
        if axis < self.separate_axes:
            return None
        starts, stops = list(tile.core.start), list(tile.core.stop)
        starts[axis], stops[axis] = start, min(stop, self.shape[axis])
        return Box(tuple(starts), tuple(stops))

    # ---------------------------------------------------------------- order
    def order(self) -> list[int]:
        """Tile indices so that neighbours come close in time: a boustrophedon through the grid.

        Successive tiles share a face, so the chunks that a halo needs are still in the reader's cache.
        """
        order: list[tuple[int, ...]] = [()]
        for n in self.grid_shape:
            order = [(*prefix, p if i % 2 == 0 else n - 1 - p) for i, prefix in enumerate(order) for p in range(n)]
        return [self.index(position) for position in order]


def browse_chunk(tile_shape: Sequence[int]) -> tuple[int, ...]:
    """The inner chunk of a shard that is a tile: small enough to look at one plane without decoding the whole tile.

    Along each axis the largest divisor of the tile's extent up to 64 (256 where at most two axes are longer than one voxel);
    the whole extent where its divisors are all tiny (a prime extent), since a shard of slivers costs more than it saves.
    """
    target = 64 if sum(n > 1 for n in tile_shape) > 2 else 256
    chunk = []
    for n in tile_shape:
        best = max(d for d in range(1, min(n, target) + 1) if n % d == 0)
        chunk.append(best if best >= min(n, target // 4) else n)
    return tuple(chunk)


def _check_axis(axis: int, size: int, tile: int, halo: int) -> None:
    if size < 1:
        raise ValueError(f"the image is empty: its extent along axis {axis} is {size}")
    if tile < 1:
        raise ValueError(f"tile_shape is {tile} along axis {axis}; it must be at least 1 voxel")
    if halo < 0:
        raise ValueError(f"halo is {halo} along axis {axis}; it must be 0 or more voxels")
    if tile < size and halo > tile:
        raise ValueError(
            f"halo is {halo} along axis {axis}, more than the tile's {tile} voxels there; "
            f"use tiles of at least {halo}, or a halo of at most {tile}"
        )
