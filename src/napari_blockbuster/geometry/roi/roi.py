"""A region of interest of an image: the union of boxes, polygons and masks, and the tiles that meet it."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from napari_blockbuster.geometry.boxes import Box
from napari_blockbuster.geometry.tiles import TileGrid

from .box_part import BoxPart
from .coverage import Coverage
from .mask_part import MaskPart
from .polygon_part import PolygonPart

__all__ = ["Coverage", "Part", "Roi", "tiles_meeting"]

Part = BoxPart | PolygonPart | MaskPart
KINDS: dict[str, type[Part]] = {part.kind: part for part in (BoxPart, PolygonPart, MaskPart)}


@dataclass(frozen=True)
class Roi:
    """Voxels of an image. Which voxels these are is exact, at full resolution, whatever the parts were made from.

    Attributes
    ----------
    shape : tuple of int
        Shape of the image, time included.
    parts : tuple
        Boxes, polygons and masks. A voxel is inside if it is in any of them.
    """

    shape: tuple[int, ...]
    parts: tuple[Part, ...]

    def __or__(self, other: Roi) -> Roi:
        return Roi(self.shape, (*self.parts, *(part for part in other.parts if part not in self.parts)))

    def coverage(self, grid: TileGrid) -> np.ndarray:
        """Return the `Coverage` of each tile: int8, one entry per tile in row-major order.

        A tile that several parts cover together, and none alone, counts as covered in part.
        """
        found = np.zeros(grid.grid_shape, np.int8)
        for part in self.parts:
            np.maximum(found, part.coverage(grid), out=found)
        return found.reshape(-1)

    def mask(self, box: Box) -> np.ndarray:
        """Return which voxels of a box are inside: bool, shape of the box."""
        out = np.zeros(box.shape, bool)
        for part in self.parts:
            part.paint(box, out)
        return out

    def holds(self, voxels: np.ndarray) -> np.ndarray:
        """Return whether voxels are inside.

        Parameters
        ----------
        voxels : numpy.ndarray
            Integers of shape (n, axes). They must lie in the image.
        """
        voxels = np.asarray(voxels, np.int64)
        found = np.zeros(len(voxels), bool)
        for part in self.parts:
            found |= part.holds(voxels)
        return found

    def bounds(self) -> Box:
        """Return the smallest box that holds the parts; empty if nothing is inside the image."""
        boxes = [box for box in (part.bounds(self.shape) for part in self.parts) if box.size]
        if not boxes:
            return Box((0,) * len(self.shape), (0,) * len(self.shape))
        start, stop = zip(*((box.start, box.stop) for box in boxes), strict=True)
        return Box(tuple(map(min, zip(*start, strict=True))), tuple(map(max, zip(*stop, strict=True))))

    @property
    def is_empty(self) -> bool:
        """Whether no part has any voxel, inside the image or not."""
        return all(part.is_empty for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        """Return the region ready for JSON."""
        return {"shape": list(self.shape), "parts": [part.to_json() for part in self.parts]}

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> Self:
        """Build from the result of `to_json`.

        Raises
        ------
        ValueError, KeyError, TypeError
            If this is no region.
        """
        parts = tuple(KINDS[part["kind"]].of_json(part) for part in said["parts"])
        return cls(tuple(map(int, said["shape"])), parts)

    @functools.cached_property
    def digest(self) -> str:
        """A digest that changes with the region."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


def tiles_meeting(roi: Roi, grid: TileGrid) -> np.ndarray:
    """Return the indices of the tiles whose cores hold a voxel of a region, in row-major order."""
    return np.flatnonzero(roi.coverage(grid) > Coverage.NONE)
