"""Alarm: a merged object that looks wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from napari_blockbuster.merge.pairs import PairOfLabels

__all__ = ["Alarm", "AlarmKind"]

AlarmKind = Literal["large", "sum", "spread", "conflict", "weak link", "lost part", "straight cut"]


@dataclass(frozen=True)
class Alarm:
    """An object that looks wrong, where, and why.

    Attributes
    ----------
    kind : str
        Over-merging: ``large`` (far larger than its neighbors), ``sum`` (larger than in a tile that saw all of it),
        ``spread`` (too long for its size), ``conflict`` (one tile saw several objects in it), ``weak link`` (one
        doubtful pair connects two objects). Under-merging: ``lost part`` (a tile saw it continue beyond its border,
        but nothing was joined), ``straight cut`` (two objects meet at a seam, or one ends there with nothing behind it).
    severity : float
        Sort key: the number of typical objects that are misplaced if the alarm is right.
    place : tuple of float
        Position in voxels of the image.
    objects : tuple of int
        Merged ids.
    labels : tuple of (tile, id)
        Labels concerned. For a large object, those at the weakest link come first.
    tiles : tuple of int
    reason : str
        The reason as text.
    pair : ((tile, id), (tile, id)) or None
        The pair to decide on: the weakest link of an over-merged object, or the missing link of a cut object.
    """

    kind: AlarmKind
    severity: float
    place: tuple[float, ...]
    objects: tuple[int, ...]
    labels: tuple[tuple[int, int], ...]
    tiles: tuple[int, ...]
    reason: str
    pair: PairOfLabels | None = None

    @property
    def over(self) -> bool:
        """Whether too much was joined (rather than too little)."""
        return self.kind not in ("lost part", "straight cut")
