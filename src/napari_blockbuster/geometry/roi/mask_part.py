"""A mask of any resolution as a part of a region of interest."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from napari_blockbuster.geometry.boxes import Box
from napari_blockbuster.geometry.tiles import TileGrid

from .coverage import Coverage, core_edges, over_ranges

__all__ = ["MaskPart"]


@dataclass(frozen=True)
class MaskPart:
    """The voxels of an image whose centers lie in a mask.

    Voxel ``v`` of the image lies in voxel ``floor((v + 0.5) * step + offset)`` of the mask, along each axis.

    Attributes
    ----------
    packed : bytes
        The mask, eight voxels in a byte, compressed.
    mask_shape, image_shape : tuple of int
    step : tuple of float
        Voxels of the mask in one voxel of the image, at most 1; 0 along an axis that the mask does not have.
    offset : tuple of float
        Voxels of the mask before the first voxel of the image.
    """

    kind: ClassVar[str] = "mask"
    packed: bytes
    mask_shape: tuple[int, ...]
    image_shape: tuple[int, ...]
    step: tuple[float, ...]
    offset: tuple[float, ...]

    @classmethod
    def of(
        cls,
        mask: np.ndarray,
        image_shape: Sequence[int],
        step: Sequence[float] | None = None,
        offset: Sequence[float] | None = None,
    ) -> Self:
        """Build from an array; all voxels but 0 are inside.

        Parameters
        ----------
        mask : numpy.ndarray
            One axis for each axis of the image.
        image_shape : sequence of int
        step, offset : sequence of float, optional
            Default: the mask covers the same field as the image.
        """
        mask = np.asarray(mask) != 0
        shape = tuple(int(n) for n in image_shape)
        steps = (
            tuple(m / n for m, n in zip(mask.shape, shape, strict=True)) if step is None else tuple(map(float, step))
        )
        offsets = (0.0,) * mask.ndim if offset is None else tuple(map(float, offset))
        for axis, (n, m, each, first) in enumerate(zip(shape, mask.shape, steps, offsets, strict=True)):
            if each > 1:
                # Finer than the image: only the voxels at the centers of the image's voxels count.
                place = np.floor((np.arange(n) + 0.5) * each + first).astype(np.int64)
                valid = (place >= 0) & (place < m)
                mask = mask.take(np.where(valid, place, 0), axis) & _along(valid, axis, mask.ndim)
                steps = (*steps[:axis], 1.0, *steps[axis + 1 :])
                offsets = (*offsets[:axis], 0.0, *offsets[axis + 1 :])
        return cls(zlib.compress(np.packbits(mask).tobytes(), 6), mask.shape, shape, steps, offsets)

    @classmethod
    def of_tiles(cls, tiles: Sequence[int] | np.ndarray, grid: TileGrid) -> Self:
        """Build from the indices of tiles: the voxels of their cores."""
        chosen = np.zeros(len(grid), bool)
        chosen[np.asarray(tiles, np.int64)] = True
        return cls.of(chosen.reshape(grid.grid_shape), grid.shape, [1 / n for n in grid.tile_shape])

    def __getstate__(self) -> dict[str, Any]:
        # Without the mask that was unpacked here.
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @cached_property
    def voxels(self) -> np.ndarray:
        """The mask itself: bool."""
        size = int(np.prod(self.mask_shape))
        bits = np.frombuffer(zlib.decompress(self.packed), np.uint8)
        return np.unpackbits(bits, count=size).astype(bool).reshape(self.mask_shape)

    @property
    def is_empty(self) -> bool:
        return not self.voxels.any()

    @cached_property
    def _padded(self) -> np.ndarray:
        """The mask with a voxel of False on each side, for what lies beside it."""
        return np.pad(self.voxels, 1)

    @cached_property
    def _places(self) -> tuple[np.ndarray, ...]:
        """For each axis, the place in `_padded` of each voxel of the image."""
        found = []
        for n, m, step, offset in zip(self.image_shape, self.mask_shape, self.step, self.offset, strict=True):
            place = np.floor((np.arange(n) + 0.5) * step + offset)
            found.append((np.clip(place, -1, m) + 1).astype(np.int64))
        return tuple(found)

    def coverage(self, grid: TileGrid) -> np.ndarray:
        """Return the `Coverage` of each tile: int8, shape of the grid."""
        ranges = []
        for axis, places in enumerate(self._places):
            starts, stops = core_edges(grid, axis)
            ranges.append((places[starts], places[stops - 1]))
        some = over_ranges(np.logical_or, self._padded, ranges)
        every = over_ranges(np.logical_and, self._padded, ranges)
        return np.where(every, Coverage.ALL, np.where(some, Coverage.SOME, Coverage.NONE)).astype(np.int8)

    def paint(self, box: Box, out: np.ndarray) -> None:
        """Set the voxels of a box that lie in this part."""
        out |= self._padded[np.ix_(*(p[a:b] for p, a, b in zip(self._places, box.start, box.stop, strict=True)))]

    def holds(self, voxels: np.ndarray) -> np.ndarray:
        """Return whether each voxel lies in this part. `voxels` is an integer array of shape (n, axes)."""
        inside: np.ndarray = self._padded[tuple(p[voxels[:, axis]] for axis, p in enumerate(self._places))]
        return inside

    def bounds(self, shape: tuple[int, ...]) -> Box:
        """Return a box that holds every voxel of this part within an image."""
        start, stop = [], []
        for axis, places in enumerate(self._places):
            others = tuple(a for a in range(len(shape)) if a != axis)
            inside = np.flatnonzero(np.asarray(self._padded.any(axis=others))[places])
            start.append(int(inside[0]) if len(inside) else 0)
            stop.append(int(inside[-1]) + 1 if len(inside) else 0)
        return Box(tuple(start), tuple(stop))

    def to_json(self) -> dict[str, Any]:
        said = {name: list(getattr(self, name)) for name in ("mask_shape", "image_shape", "step", "offset")}
        return {"kind": self.kind, **said, "packed": base64.b64encode(self.packed).decode()}

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> Self:
        mask_shape, image_shape = (tuple(map(int, said[name])) for name in ("mask_shape", "image_shape"))
        step, offset = (tuple(map(float, said[name])) for name in ("step", "offset"))
        return cls(base64.b64decode(said["packed"]), mask_shape, image_shape, step, offset)


def _along(table: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    return table.reshape([-1 if a == axis else 1 for a in range(ndim)])
