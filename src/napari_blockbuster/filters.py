"""Which merged objects are kept: by size, and by whether the image's edge cuts them.

Filters act on merged objects, never on the labels of a tile: an object that a tile border cuts is small in each tile. No
voxel is read and no staged tile is changed, so that a filter can be taken back like any other setting of a merge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from .merge import Merge

    M = TypeVar("M", bound=Merge)

__all__ = ["ObjectFilter"]


@dataclass(frozen=True)
class ObjectFilter:
    """What is kept of the merged objects.

    Attributes
    ----------
    min_size, max_size : int or None
        In voxels of the image, both kept themselves; None for no limit.
    drop_border : bool
        Remove objects that touch the image's edge: they are cut there, and their size says little.

    Raises
    ------
    ValueError
        If a size is negative, or no size is left between the two.
    """

    min_size: int | None = None
    max_size: int | None = None
    drop_border: bool = False

    def __post_init__(self) -> None:
        for name in ("min_size", "max_size"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}; a size is counted in voxels, 0 or more")
        if self.min_size is not None and self.max_size is not None and self.min_size > self.max_size:
            raise ValueError(f"min_size is {self.min_size} and max_size {self.max_size}: no object lies between them")

    @classmethod
    def of_volumes(
        cls, smallest: float | None, largest: float | None, spacing: Sequence[float], drop_border: bool = False
    ) -> ObjectFilter:
        """The filter for sizes in the image's own unit (square micrometres in 2D, cubic in 3D).

        Parameters
        ----------
        smallest, largest : float or None
        spacing : sequence of float
            Extent of a voxel along each spatial axis.
        """
        voxel = math.prod(spacing)
        # A hair of tolerance: 20 voxels of 0.1 are 2.0000000000000004, and a filter at 2 keeps them.
        low = None if smallest is None else math.ceil(smallest / voxel * (1 - 1e-9))
        high = None if largest is None else math.floor(largest / voxel * (1 + 1e-9))
        return cls(low, high, drop_border)

    def __bool__(self) -> bool:
        return self != ObjectFilter()

    def settings(self) -> dict[str, Any]:
        """What differs from keeping everything: JSON-ready."""
        return {name: value for name, value in asdict(self).items() if value not in (None, False)}

    def apply(self, merged: M) -> M:
        """The merge without the objects that are not kept; the others are numbered as before, 1..n where they were."""
        if not self:
            return merged
        owner = merged.new_ids[1:].astype(np.int64)
        highest = int(owner.max(initial=0))
        keep = self._kept(merged, owner, highest)
        ids = np.zeros(highest + 1, merged.new_ids.dtype)
        found = np.flatnonzero(keep)
        was_sequential = merged.n_objects == highest
        ids[found] = np.arange(1, len(found) + 1) if was_sequential else found
        return replace(
            merged,
            new_ids=ids[merged.new_ids],
            n_objects=len(found),
            filter=self,
            n_removed=merged.n_objects - len(found),
        )

    def _kept(self, merged: Merge, owner: np.ndarray, highest: int) -> np.ndarray:
        """Whether each merged id is kept; False for ids that no object has."""
        objects = merged.labels_table.objects
        sizes = np.bincount(owner, weights=objects["core"], minlength=highest + 1)
        keep = sizes > 0
        keep[0] = False
        if self.min_size is not None:
            keep &= sizes >= self.min_size
        if self.max_size is not None:
            keep &= sizes <= self.max_size
        if self.drop_border:
            keep[owner[objects["edge"]]] = False
        return keep
