"""Alarm: a merged object that looks wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from napari_blockbuster.merge.pairs import PairOfLabels

__all__ = ["Alarm", "AlarmKind"]

AlarmKind = Literal["large", "sum", "spread", "conflict", "weak link", "lost part", "straight cut"]


@dataclass(frozen=True)
class Alarm:
    """One suspicion.

    Attributes
    ----------
    kind : str
        Over-merging: ``large`` (far larger than its neighbours), ``sum`` (larger than a tile saw it), ``spread``
        (longer than its size explains), ``conflict`` (one tile saw several objects in it), ``weak link`` (two objects
        held together by one doubtful pair). Under-merging: ``lost part`` (a tile saw it go on beyond its border, where
        nothing was joined), ``straight cut`` (two objects end face to face at a seam, or one with nothing behind it).
    severity : float
        For sorting: how many typical objects are wrongly placed if the suspicion is right.
    place : tuple of float
        Where to look, in voxels of the image.
    objects : tuple of int
        Merged ids.
    labels : tuple of (tile, id)
        Labels of tiles that are concerned; of a large object, those at the weakest link come first.
    tiles : tuple of int
    reason : str
        In words.
    pair : ((tile, id), (tile, id)) or None
        What a verdict would be about: the weakest link of an over-merged object, the missing one of a cut object.
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
        """Whether too much was joined, and not too little."""
        return self.kind not in ("lost part", "straight cut")
