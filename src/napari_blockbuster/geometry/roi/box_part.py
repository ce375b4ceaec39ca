"""A box as a part of a region of interest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from napari_blockbuster.geometry.boxes import Box
from napari_blockbuster.geometry.tiles import TileGrid

from .coverage import Coverage, core_edges, outer

__all__ = ["BoxPart"]


@dataclass(frozen=True)
class BoxPart:
    """The voxels of a box. It may reach beyond the image."""

    kind: ClassVar[str] = "box"
    box: Box

    @property
    def is_empty(self) -> bool:
        return self.box.size == 0 or any(a >= b for a, b in zip(self.box.start, self.box.stop, strict=True))

    def coverage(self, grid: TileGrid) -> np.ndarray:
        """Return the `Coverage` of each tile: int8, shape of the grid."""
        some, every = [], []
        for axis, (a, b) in enumerate(zip(self.box.start, self.box.stop, strict=True)):
            starts, stops = core_edges(grid, axis)
            some.append(np.maximum(starts, a) < np.minimum(stops, b))
            every.append((a <= starts) & (stops <= b))
        return np.where(outer(every), Coverage.ALL, np.where(outer(some), Coverage.SOME, Coverage.NONE)).astype(np.int8)

    def paint(self, box: Box, out: np.ndarray) -> None:
        """Set the voxels of a box that lie in this part."""
        out[box.intersection(self.box).within(box)] = True

    def holds(self, voxels: np.ndarray) -> np.ndarray:
        """Return whether each voxel lies in this part. `voxels` is an integer array of shape (n, axes)."""
        return np.asarray(((voxels >= self.box.start) & (voxels < self.box.stop)).all(axis=1))

    def bounds(self, shape: tuple[int, ...]) -> Box:
        """Return a box that holds every voxel of this part within an image."""
        return Box((0,) * len(shape), shape).intersection(self.box)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "start": list(self.box.start), "stop": list(self.box.stop)}

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> Self:
        return cls(Box(tuple(map(int, said["start"])), tuple(map(int, said["stop"]))))
