"""Events emitted while tiles are staged: one for each tile, and heartbeats in between."""

from __future__ import annotations

import time
from dataclasses import dataclass

from napari_blockbuster.geometry.tiles import Tile, TileGrid
from napari_blockbuster.stage.records.records import TileFailure, TileRecord

__all__ = ["Beats", "Heartbeat", "StageEvent", "StepProgress", "Tally", "TileFailed", "TileStaged"]


CANCEL_SEEN = 0.5
"""Seconds within which a run without events notices that it was canceled."""


@dataclass(frozen=True)
class TileStaged:
    """A tile's labels are on disk."""

    tile: Tile
    record: TileRecord
    done: int
    total: int


@dataclass(frozen=True)
class TileFailed:
    """A tile could not be segmented. The run continues."""

    tile: Tile
    failure: TileFailure
    done: int
    total: int


@dataclass(frozen=True)
class Heartbeat:
    """No tile landed for a while, and the run is alive.

    Attributes
    ----------
    waits_for : str
        What the run needs before it can send a tile: a worker, or the checks of one. "" while tiles run.
    """

    done: int
    total: int
    waits_for: str = ""


@dataclass(frozen=True)
class StepProgress:
    """Progress of a step after the tiles: finding holes, writing. Emitted only when following a detached run."""

    step: str
    done: int
    total: int


StageEvent = TileStaged | TileFailed | Heartbeat


class Beats:
    """Times at which heartbeats are due.

    Parameters
    ----------
    seconds : float or None
        Seconds between two heartbeats; None for no heartbeats.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    @property
    def look(self) -> float:
        """Seconds between two looks at whether the run was canceled, with or without heartbeats."""
        return CANCEL_SEEN if self._seconds is None else min(self._seconds, CANCEL_SEEN)

    def due(self) -> bool:
        """Whether a heartbeat is due. The next one is due after the same interval."""
        now = time.monotonic()
        # A look slightly before a heartbeat is due must not skip it.
        if self._seconds is None or now - self._last < 0.9 * self._seconds:
            return False
        self._last = now
        return True


class Tally:
    """Count the tiles of a run as they land.

    Parameters
    ----------
    grid : TileGrid
    done, total : int
        Tiles that are staged already, and tiles of a complete run.
    """

    def __init__(self, grid: TileGrid, done: int, total: int) -> None:
        self._grid, self._done, self._total = grid, done, total

    def event(self, result: TileRecord | TileFailure | None, waits_for: str = "") -> StageEvent:
        """Return the event for a result of a run."""
        if isinstance(result, TileRecord):
            self._done += 1
            return TileStaged(self._grid[result.index], result, self._done, self._total)
        if isinstance(result, TileFailure):
            return TileFailed(self._grid[result.index], result, self._done, self._total)
        return Heartbeat(self._done, self._total, waits_for)

    def __str__(self) -> str:
        return f"{self._done} of {self._total} tiles"
