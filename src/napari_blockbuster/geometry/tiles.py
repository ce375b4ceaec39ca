"""Pure integer geometry of a tiled image.

Tiles are composed from one-dimensional pieces (`napari_blockbuster.geometry.axis`), so that a rule which holds along one axis
holds along all of them. Nothing in this package touches a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import row_major
from .axis import AxisTiling, check_axis, per_axis
from .boxes import Box
from .chunks import browse_chunk
from .neighbors import Neighbor, forward_offsets

__all__ = ["DEFAULT_BAND_DEPTH", "Box", "Neighbor", "Tile", "TileGrid", "browse_chunk"]

DEFAULT_BAND_DEPTH = 16
"""Default for `TileGrid.band_depth`: for objects of the usual size, a deeper band adds no evidence."""


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
        The core grown by the halo and clipped at the image: the voxels that the model gets.
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
        than one tile, so that a read box reaches its direct neighbors only.
    separate_axes : int, default 0
        How many leading axes (time) are cut into single planes that are never neighbors.
    band_depth : int, default 16
        At most how many voxels on each side of a face are compared between the two tiles. If half the halo is less, half the
        halo is compared: models err near the outer border of a read box.

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
        tile = per_axis(tile_shape, ndim, "tile_shape")
        reach = per_axis(halo, ndim, "halo")
        if not 0 <= separate_axes < max(ndim, 1):
            raise ValueError(f"separate_axes is {separate_axes}: it must leave at least one spatial axis of {ndim}")
        tile = (1,) * separate_axes + tile[separate_axes:]
        reach = (0,) * separate_axes + reach[separate_axes:]
        for axis in range(ndim):
            check_axis(axis, shape[axis], tile[axis], reach[axis])
        if band_depth < 0:
            raise ValueError(f"band_depth is {band_depth}. It must be 0 or more")
        axes = [AxisTiling.fitted(*extents, band_depth) for extents in zip(shape, tile, reach, strict=True)]
        for name, value in (
            ("shape", shape),
            ("tile_shape", tuple(axis.tile for axis in axes)),
            ("halo", tuple(axis.halo for axis in axes)),
            ("separate_axes", separate_axes),
            ("band_depth", band_depth),
        ):
            object.__setattr__(self, name, value)

    # ---------------------------------------------------------------- tiles
    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @cached_property
    def axes(self) -> tuple[AxisTiling, ...]:
        """The tiling of each axis."""
        return tuple(map(AxisTiling, self.shape, self.tile_shape, self.halo, (self.band_depth,) * self.ndim))

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

    def core(self, index: int) -> Box:
        """Return the core of a tile."""
        core = tuple(zip(*(a.core(p) for a, p in zip(self.axes, self.position(index), strict=True)), strict=True))
        return Box(*core)

    def __iter__(self) -> Iterator[Tile]:
        return (self[i] for i in range(len(self)))

    def position(self, index: int) -> tuple[int, ...]:
        """Grid position of a tile, from its row-major index."""
        return row_major.position_of(index, self.grid_shape)

    def index(self, position: Sequence[int]) -> int:
        """Row-major index of a tile, from its grid position."""
        return row_major.index_of(position, self.grid_shape)

    def order(self) -> list[int]:
        """Return all tile indices in an order in which successive tiles share a face.

        The chunks that a halo needs are then still in the reader's cache.
        """
        return row_major.snake_order(self.grid_shape)

    # ----------------------------------------------------- tiles at a place
    def tile_at(self, voxel: Sequence[float]) -> Tile:
        """Return the tile whose core holds a voxel (clipped to the image)."""
        return self[self.index([axis.position_of(x) for axis, x in zip(self.axes, voxel, strict=True)])]

    def spans(self, box: Box) -> list[range]:
        """Return the grid positions along each axis of the tiles whose cores meet a box."""
        return [axis.span(a, b) for axis, a, b in zip(self.axes, box.start, box.stop, strict=True)]

    def tiles_in(self, box: Box) -> list[int]:
        """Return the indices of the tiles whose cores meet a box, in row-major order."""
        found: list[int] = row_major.indices_in(self.spans(box), self.grid_shape).ravel().tolist()
        return found

    def nearest(self, box: Box, most: int) -> list[int]:
        """Return the indices of at most `most` tiles whose cores meet a box, those nearest to its center first."""
        spans = self.spans(box)
        indices = row_major.indices_in(spans, self.grid_shape).ravel()
        distances: np.ndarray = np.zeros(())
        for span, tile, a, b in zip(spans, self.tile_shape, box.start, box.stop, strict=True):
            positions = np.arange(span.start, span.stop)
            distances = distances[..., None] + (positions - ((a + b) / 2 / tile - 0.5)) ** 2
        distances = distances.ravel()
        if len(indices) > most:
            chosen = np.argpartition(distances, most)[:most]
            indices, distances = indices[chosen], distances[chosen]
        found: list[int] = indices[np.lexsort((indices, distances))].tolist()
        return found

    # ------------------------------------------------------------ neighbors
    @cached_property
    def offsets(self) -> tuple[tuple[int, ...], ...]:
        """Offsets of a tile's forward neighbors, faces first."""
        return forward_offsets(self.ndim, self.separate_axes)

    def neighbor(self, index: int, offset: Sequence[int]) -> int | None:
        """Return the index of the tile at ``position + offset``, or None outside the grid."""
        position = [p + o for p, o in zip(self.position(index), offset, strict=True)]
        if all(0 <= p < n for p, n in zip(position, self.grid_shape, strict=True)):
            return self.index(position)
        return None

    def face_neighbors(self, index: int) -> list[int]:
        """Return the tiles that share a face with a tile: last axis first, along each axis the following tile first."""
        found = []
        for axis in reversed(range(self.separate_axes, self.ndim)):
            for step in (1, -1):
                other = self.neighbor(index, [step if a == axis else 0 for a in range(self.ndim)])
                if other is not None:
                    found.append(other)
        return found

    def pairs(self, index: int) -> list[Neighbor]:
        """Return all pairs of touching tiles that `index` belongs to, as low or as high."""
        found = []
        position = self.position(index)
        for offset, step in self._steps:
            ends = [(p + o, p - o, n) for p, o, n in zip(position, offset, self.grid_shape, strict=True)]
            if all(0 <= after < n for after, _, n in ends):
                found.append(Neighbor(index, index + step, offset))
            if all(0 <= before < n for _, before, n in ends):
                found.append(Neighbor(index - step, index, offset))
        return found

    @cached_property
    def _steps(self) -> list[tuple[tuple[int, ...], int]]:
        """The offsets of forward neighbors, and the difference of their indices."""
        strides = [math.prod(self.grid_shape[axis + 1 :]) for axis in range(self.ndim)]
        return [(offset, sum(o * s for o, s in zip(offset, strides, strict=True))) for offset in self.offsets]

    def all_pairs(self) -> Iterator[Neighbor]:
        """Yield every pair of touching tiles, once."""
        for index in range(len(self)):
            for offset in self.offsets:
                high = self.neighbor(index, offset)
                if high is not None:
                    yield Neighbor(index, high, offset)

    # ---------------------------------------------------------------- bands
    def depth(self, axis: int) -> int:
        """Return how many voxels on each side of a face both of its tiles have segmented and compare."""
        return self.axes[axis].depth

    def band_thickness(self, axis: int) -> int:
        """Return the thickness of a stored band: at least the tile's own plane at the face."""
        return self.axes[axis].own_depth + self.axes[axis].depth

    @cached_property
    def band_keys(self) -> tuple[tuple[int, str], ...]:
        """The (axis, side) of all bands of a tile: none along an axis with a single tile or along time."""
        axes = range(self.separate_axes, self.ndim)
        return tuple((a, side) for a in axes if self.grid_shape[a] > 1 for side in ("low", "high"))

    def band(self, tile: Tile, axis: int, side: str) -> Box | None:
        """Return the box that a tile stores beside a face of its core, or None at the image's edge.

        Parameters
        ----------
        tile : Tile
        axis : int
        side : {"low", "high"}
            Role of the tile at the face: ``"low"`` at its upper face, ``"high"`` at its lower face.

        Returns
        -------
        Box or None
            ``depth`` voxels on each side of the face (its own side: at least one), clipped at the image, over the tile's
            core along the other axes.
        """
        extent = None if axis < self.separate_axes else self.axes[axis].band(tile.position[axis], side)
        if extent is None:
            return None
        starts, stops = list(tile.core.start), list(tile.core.stop)
        starts[axis], stops[axis] = extent
        return Box(tuple(starts), tuple(stops))
