"""What a staging run tells while it goes: one event for each tile that lands, and a heartbeat in between."""

from __future__ import annotations

import time
from dataclasses import dataclass

from napari_blockbuster.geometry.tiles import Tile, TileGrid
from napari_blockbuster.stage.records import TileFailure, TileRecord

__all__ = ["Beats", "Heartbeat", "StageEvent", "StepProgress", "Tally", "TileFailed", "TileStaged"]


CANCEL_SEEN = 0.5
"""Seconds after which a quiet run sees that it was canceled."""


@dataclass(frozen=True)
class TileStaged:
    """A tile's labels are on disk."""

    tile: Tile
    record: TileRecord
    done: int
    total: int


@dataclass(frozen=True)
class TileFailed:
    """A tile could not be segmented; the run goes on."""

    tile: Tile
    failure: TileFailure
    done: int
    total: int


@dataclass(frozen=True)
class Heartbeat:
    """Nothing landed for a while; the run is alive.

    Attributes
    ----------
    waits_for : str
        What it needs before it can send a tile: a worker, or the checks of one. "" while tiles run.
    """

    done: int
    total: int
    waits_for: str = ""


@dataclass(frozen=True)
class StepProgress:
    """How far a step after the tiles is: looking for holes, writing. Only who follows a detached driver is told."""

    step: str
    done: int
    total: int


StageEvent = TileStaged | TileFailed | Heartbeat


class Beats:
    """When a heartbeat is due.

    Parameters
    ----------
    seconds : float or None
        Between two of them; None for none at all.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    @property
    def look(self) -> float:
        """Seconds between two looks at whether the run was canceled, with or without heartbeats."""
        return CANCEL_SEEN if self._seconds is None else min(self._seconds, CANCEL_SEEN)

    def due(self) -> bool:
        """Whether one is due; it counts as given."""
        now = time.monotonic()
        # Looks and heartbeats of the same length must not drift apart.
        if self._seconds is None or now - self._last < 0.9 * self._seconds:
            return False
        self._last = now
        return True


class Tally:
    """Counts the tiles of a run as they land."""

    def __init__(self, grid: TileGrid, done: int) -> None:
        self._grid, self._done, self._total = grid, done, len(grid)

    def event(self, result: TileRecord | TileFailure | None, waits_for: str = "") -> StageEvent:
        """The event for what a run yielded."""
        if isinstance(result, TileRecord):
            self._done += 1
            return TileStaged(self._grid[result.index], result, self._done, self._total)
        if isinstance(result, TileFailure):
            return TileFailed(self._grid[result.index], result, self._done, self._total)
        return Heartbeat(self._done, self._total, waits_for)

    def __str__(self) -> str:
        return f"{self._done} of {self._total} tiles"
