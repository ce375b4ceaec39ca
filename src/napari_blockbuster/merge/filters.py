"""The object filter: which merged objects to keep, by size, position and any column of their table, and filled holes.

This module holds the settings. `napari_blockbuster.merge.selection` applies them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .column_ranges import checked_ranges, range_texts

__all__ = ["ObjectFilter"]


@dataclass(frozen=True)
class ObjectFilter:
    """Settings of the object filter.

    A hole is background, connected through faces of voxels, that a single merged object surrounds and that reaches neither
    the edge of the image nor a tile that is not staged. (The contents of a tile that failed are unknown.) Background between
    an object and a second object inside it touches both, so it is no hole of either. Time points are separate.

    Holes are filled before objects are measured, so an object's size includes its holes. Objects that are removed become
    background, and holes that this creates are filled too: a nucleus with a speck in its hole becomes solid once the speck
    is removed.

    Attributes
    ----------
    min_size, max_size : int or None
        Smallest and largest object that is kept, in voxels; None for no limit.
    drop_border : bool
        Remove objects that touch the edge of the image. They are cut there, so their size means little.
    fill_holes : bool
        Fill the holes of each object.
    max_hole_size : int or None
        Largest hole that is filled, in voxels; None for no limit.
    ranges : mapping of str to (float or None, float or None)
        Smallest and largest value of columns of the table of objects, limits included: ``{"area": (50, None),
        "intensity_mean-DAPI": (120, None)}``. Objects without a value are removed. Values do not count filled holes.

    Raises
    ------
    ValueError
        If a size is negative, no size lies between two limits, or holes have a limit but are not filled.
    """

    min_size: int | None = None
    max_size: int | None = None
    drop_border: bool = False
    fill_holes: bool = False
    max_hole_size: int | None = None
    ranges: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.max_hole_size is not None and not self.fill_holes:
            raise ValueError(
                f"max_hole_size is {self.max_hole_size}, but holes are not filled. Add fill_holes=True (--fill-holes)."
            )
        for name in ("min_size", "max_size", "max_hole_size"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}. It must be 0 or more voxels.")
        if self.min_size is not None and self.max_size is not None and self.min_size > self.max_size:
            raise ValueError(f"min_size is {self.min_size} and max_size is {self.max_size}. No object can be kept.")
        object.__setattr__(self, "ranges", checked_ranges(self.ranges))

    @classmethod
    def of_volumes(
        cls,
        smallest: float | None,
        largest: float | None,
        spacing: Sequence[float],
        *,
        drop_border: bool = False,
        fill_holes: bool = False,
        largest_hole: float | None = None,
    ) -> ObjectFilter:
        """Return the filter for sizes in physical units (areas in 2D, volumes in 3D).

        Parameters
        ----------
        smallest, largest : float or None
            Limits of the object size, for example in cubic micrometers.
        spacing : sequence of float
            Voxel size along each spatial axis.
        drop_border, fill_holes : bool, default False
        largest_hole : float, optional
            Largest hole that is filled.
        """
        voxel = math.prod(spacing)
        # Rounding errors must not count: 20 voxels of 0.1 are 2.0000000000000004, and a limit of 2 includes them.
        low = None if smallest is None else math.ceil(smallest / voxel * (1 - 1e-9))
        high, hole = (None if x is None else math.floor(x / voxel * (1 + 1e-9)) for x in (largest, largest_hole))
        return cls(low, high, drop_border, fill_holes, hole)

    def __bool__(self) -> bool:
        return self != ObjectFilter()

    def settings(self) -> dict[str, Any]:
        """Settings that differ from the default, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if value not in (None, False, {})}

    def options(self) -> dict[str, Any]:
        """Options of the command line that differ from the default, and their values."""
        found = self.settings()
        if ranges := found.pop("ranges", None):
            found["keep"] = range_texts(ranges)
        return found
