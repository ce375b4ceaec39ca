"""Axis-aligned boxes of voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Box"]


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
        """Return the voxels in both boxes (an empty box has a zero extent)."""
        start = tuple(map(max, self.start, other.start))
        stop = tuple(max(a, b) for a, b in zip(start, map(min, self.stop, other.stop), strict=True))
        return Box(start, stop)

    def contains(self, other: Box) -> bool:
        """Return whether every voxel of `other` lies in this box."""
        return all(a <= c and d <= b for a, b, c, d in zip(self.start, self.stop, other.start, other.stop, strict=True))

    def __str__(self) -> str:
        return "[" + ", ".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True)) + "]"
