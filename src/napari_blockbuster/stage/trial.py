"""Run one tile on each of a few workers first, and start the others once one succeeds.

A trial is a tile like any other, and its labels are kept. A model that fails everywhere, or tiles that need more memory than
a worker has, therefore stop the run after a few tiles.
"""

from __future__ import annotations

from collections.abc import Iterable

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.stage.records.records import TileFailure, TileRecord

__all__ = ["TrialError", "TrialQueue"]

TRIALS = 3
"""Tiles in different places of the image that must fail before the run is stopped."""


class TrialError(JobError):
    """All trial tiles failed, so the others were not tried."""


class TrialQueue(TileQueue):
    """Queue that gives each worker one tile, and at most three in all, until a tile has succeeded. Then it works like any other.

    Parameters
    ----------
    order : iterable of int
        Tiles that wait.
    proven : bool
        Whether tiles of this job have succeeded before, so that no trial is needed. Runs of few tiles need no trial either.
    """

    def __init__(self, order: Iterable[int], *, proven: bool) -> None:
        super().__init__(order)
        self._open = proven or len(self) <= TRIALS
        self._out: dict[int, str] = {}
        self._failures: list[TileFailure] = []

    def take(self, worker: str = "") -> int | None:
        """Return the next item for a worker, or None while its trial, or enough other trials, are running."""
        if self._open:
            return super().take(worker)
        trials = len(self._out) + len(self._failures)
        if worker in self._out.values() or trials >= TRIALS:
            return None
        if trials:
            # One corner of the image may be special, so the next trials are far from it.
            self.prefer(self.spread(TRIALS - trials))
        # Trials belong to no worker, so that the order stays in one part for the workers.
        item = super().take("")
        if item is not None:
            self._out[item] = worker
        return item

    def add(self, items: Iterable[int]) -> None:
        """Put items back, to be tried again."""
        items = list(items)
        super().add(items)
        for item in items:
            self._out.pop(item, None)

    def look(self, result: TileRecord | TileFailure | None, grid: TileGrid) -> None:
        """Take the result of a trial into account.

        Raises
        ------
        TrialError
            If it was the last trial, and all have failed.
        """
        if self._open or result is None:
            return
        self._out.pop(result.index, None)
        if isinstance(result, TileRecord):
            self._open = True
            return
        self._failures.append(result)
        if len(self._failures) == TRIALS:
            raise TrialError(_in_words(self._failures, grid))


def _in_words(failures: list[TileFailure], grid: TileGrid) -> str:
    last = failures[-1]
    what = f"{last.error}: {last.message}" if last.message else last.error
    if str(grid[last.index]) not in what:
        what = f"{grid[last.index]}: {what}"
    return (
        f"the first {len(failures)} tiles, in different places of the image, all failed, so the others were not tried "
        f"({what}). Fix the problem and resume"
    )
