"""The image that a region of interest belongs to: its axes, its sizes, and how much coarser it is than the full resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from napari_blockbuster.images import ImageSource, source_from_description
from napari_blockbuster.images.metadata.sizes import level_factor
from napari_blockbuster.machine.units import shape_text

__all__ = ["Frame"]


@dataclass(frozen=True)
class Frame:
    """What places something in an image.

    Attributes
    ----------
    axes : tuple of str
    shape : tuple of int
    scale : tuple of float
    translation : tuple of float
        World coordinates of the center of the first voxel.
    units : tuple of str or None
    factors : tuple of float
        Voxels of the full resolution in one voxel of this level, along each axis.
    """

    axes: tuple[str, ...]
    shape: tuple[int, ...]
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    units: tuple[str | None, ...]
    factors: tuple[float, ...]

    @classmethod
    def of(cls, source: ImageSource) -> Self:
        translation = source.translation or (0.0,) * source.ndim
        factors = tuple(map(level_factor, _full_shape(source), source.shape))
        return cls(source.axes, source.shape, source.scale, translation, source.units, factors)

    @property
    def has_sizes(self) -> bool:
        """Whether the image says how large its voxels are."""
        return any(unit for axis, unit in zip(self.axes, self.units, strict=True) if axis != "t")

    def named(self) -> str:
        """Return the shape with the names of the axes, for a message."""
        return f"{shape_text(self.shape)} ({', '.join(self.axes)})"

    def extent(self, axis: int, *, in_units: bool) -> str:
        """Return a sentence that says where the voxels of an axis lie, for a message."""
        n = self.shape[axis]
        if not in_units:
            return f"The image has the voxels 0 to {n - 1} there."
        first = self.translation[axis]
        last = first + (n - 1) * self.scale[axis]
        return (
            f"A voxel is inside if its center is, and the image has {n} centers there, from {first:g} to {last:g} "
            f"{self.units[axis]}."
        )

    def span(self, axis: int, low: float | None, high: float | None) -> tuple[int, int]:
        """Return the voxels whose centers lie from one world coordinate to another, along an axis."""
        first, last = (
            None if x is None else math.ceil((x - self.translation[axis]) / self.scale[axis] - 1e-6)
            for x in (low, high)
        )
        return 0 if first is None else first, self.shape[axis] if last is None else last


def _full_shape(source: ImageSource) -> Sequence[int]:
    """Shape of the image at full resolution."""
    said = source.describe()
    if not said.get("level"):
        return source.shape
    try:
        return source_from_description({**said, "level": 0, "scale": None, "translation": None}).shape
    except (OSError, ValueError):
        return source.shape
