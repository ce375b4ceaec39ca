"""What a staging run tells while it goes: one event for each tile that lands, and a heartbeat in between."""

from __future__ import annotations

from dataclasses import dataclass

from .records import TileFailure, TileRecord
from .tiling import Tile, TileGrid

__all__ = ["Heartbeat", "StageEvent", "StepProgress", "Tally", "TileFailed", "TileStaged"]


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
    """Nothing landed for a while; the run is alive."""

    done: int
    total: int


@dataclass(frozen=True)
class StepProgress:
    """How far a step after the tiles is: looking for holes, writing. Only who follows a detached driver is told."""

    step: str
    done: int
    total: int


StageEvent = TileStaged | TileFailed | Heartbeat


class Tally:
    """Counts the tiles of a run as they land."""

    def __init__(self, grid: TileGrid, done: int) -> None:
        self._grid, self._done, self._total = grid, done, len(grid)

    def event(self, result: TileRecord | TileFailure | None) -> StageEvent:
        """The event for what a run yielded."""
        if isinstance(result, TileRecord):
            self._done += 1
            return TileStaged(self._grid[result.index], result, self._done, self._total)
        if isinstance(result, TileFailure):
            return TileFailed(self._grid[result.index], result, self._done, self._total)
        return Heartbeat(self._done, self._total)

    def __str__(self) -> str:
        return f"{self._done} of {self._total} tiles"
