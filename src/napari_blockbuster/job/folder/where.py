"""Where a job segments: a region of interest, what becomes of objects at its edge, and the tiles that are proven empty.

It is one file of the job folder that holds everything, so that a job is resumed without the user's mask or polygons. It is
not part of the settings of the tiles: a region may grow, and the tiles that are staged stay.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from napari_blockbuster.geometry.roi import Coverage, Roi
from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.files import read_checked, with_checksum

__all__ = ["EVERYWHERE", "INSIDE", "Where", "check_inside", "check_threshold"]

INSIDE = ("centroid", "touching", "clip")
"""What becomes of objects at the edge of a region: kept whole if their centroid or any voxel lies inside, or cut there."""


def check_inside(inside: str) -> None:
    """Refuse an unknown rule for objects at the edge of a region.

    Raises
    ------
    ValueError
    """
    if inside not in INSIDE:
        raise ValueError(f"inside is {inside!r}. Choose one of {', '.join(INSIDE)}")


def check_threshold(skip_below: Any) -> None:
    """Refuse a threshold of empty tiles that is no number.

    Raises
    ------
    ValueError
    """
    if skip_below is None:
        return
    try:
        is_number = math.isfinite(skip_below)
    except TypeError:
        is_number = False
    if not is_number:
        raise ValueError(f"skip_below is {skip_below!r}. Give a number: tiles without a pixel above it are skipped.")


@dataclass(frozen=True)
class Where:
    """Where a job segments.

    Attributes
    ----------
    roi : Roi or None
        None: everywhere.
    inside : {"centroid", "touching", "clip"}
        Which merged objects are kept: those whose centroid lies inside, whole; those with any voxel inside, whole; or the
        parts that lie inside.
    skip_below : float or None
        Tiles without a pixel above this value are skipped. None: only those of a constant value, if `empty` is given.
    empty : tuple of int or None
        Tiles whose read boxes are proven to hold nothing. None: this was not asked.
    said : str
        How the user named the region.
    """

    roi: Roi | None = None
    inside: str = "centroid"
    skip_below: float | None = None
    empty: tuple[int, ...] | None = None
    said: str = ""

    def __bool__(self) -> bool:
        return self.roi is not None or self.empty is not None or self.skip_below is not None

    def coverage(self, grid: TileGrid) -> np.ndarray:
        """Return the `Coverage` of each tile by the region, whether the tile is empty or not."""
        return np.full(len(grid), Coverage.ALL, np.int8) if self.roi is None else self.roi.coverage(grid)

    def chosen(self, grid: TileGrid) -> np.ndarray:
        """Return whether each tile is to be segmented: bool."""
        chosen: np.ndarray = self.coverage(grid) > Coverage.NONE
        if self.empty:
            chosen[list(self.empty)] = False
        return chosen

    @cached_property
    def digest(self) -> str:
        """A digest that changes with anything that the result depends on; empty for everywhere."""
        if not self:
            return ""
        said = self._to_json()
        del said["said"]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return what provenance records of it; empty for everywhere. The region itself is in the job folder."""
        if not self:
            return {}
        bounds = None if self.roi is None else self.roi.bounds()
        return {
            "region": self.said or "region",
            "inside": self.inside,
            "bounds": None if bounds is None else [list(bounds.start), list(bounds.stop)],
            "skip_below": self.skip_below,
            "empty_tiles": None if self.empty is None else len(self.empty),
            "digest": self.digest,
        }

    # ------------------------------------------------------------------------------------------------------------ file
    def _to_json(self) -> dict[str, Any]:
        roi = None if self.roi is None else self.roi.to_json()
        empty = None if self.empty is None else list(self.empty)
        return {"roi": roi, "inside": self.inside, "skip_below": self.skip_below, "empty": empty, "said": self.said}

    def to_bytes(self) -> bytes:
        """Return the content of the file, with a checksum."""
        return with_checksum(self._to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file; everywhere if there is none.

        Raises
        ------
        JobError
            If it is damaged.
        """
        try:
            said = read_checked(path)
            roi = None if said["roi"] is None else Roi.of_json(said["roi"])
            empty = None if said["empty"] is None else tuple(map(int, said["empty"]))
            check_inside(said["inside"])
            return cls(roi, said["inside"], said["skip_below"], empty, str(said["said"]))
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError) as error:
            raise JobError(
                f"{path} cannot be read as a region of interest ({error}). Segment again with where= (--where) to replace it."
            ) from None


EVERYWHERE = Where()
