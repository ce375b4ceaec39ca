"""The first tile is a trial: nothing else is sent until a tile has succeeded.

It is a tile like any other, so its model runs once, and what it finds is kept. A model that fails everywhere, or a tile that
takes more memory than any worker has, costs a few tiles in this way, and not a night of dying workers.
"""

from __future__ import annotations

from collections.abc import Iterable

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.machine.errors import JobError

from .records import TileFailure, TileRecord

__all__ = ["TrialError", "TrialQueue"]

TRIALS = 3
"""Tiles, in different places of the image, that must fail before a run is given up."""


class TrialError(JobError):
    """No tile that was tried could be segmented, so the others were not tried."""


class TrialQueue(TileQueue):
    """Hands out one tile at a time until one has succeeded; then it is a queue like any other.

    Parameters
    ----------
    order : iterable of int
        Tiles that wait.
    proven : bool
        Whether tiles of this job succeeded before, so that no trial is needed. A run of few tiles needs none either.
    """

    def __init__(self, order: Iterable[int], *, proven: bool) -> None:
        super().__init__(order)
        self._open = proven or len(self) <= TRIALS
        self._out = False
        self._failures: list[TileFailure] = []

    def take(self, worker: str = "") -> int | None:
        """The next item for a worker; None while the outcome of a trial is awaited."""
        if self._out and not self._open:
            return None
        # Whose stretch it is does not matter yet: the order stays whole for the workers.
        item = super().take(worker if self._open else "")
        self._out = item is not None
        return item

    def add(self, items: Iterable[int]) -> None:
        """Append items (to be tried again)."""
        super().add(items)
        self._out = False

    def look(self, result: TileRecord | TileFailure | None, grid: TileGrid) -> None:
        """Take a result into account.

        Raises
        ------
        TrialError
            If it is the last trial, and all have failed.
        """
        if self._open or result is None:
            return
        self._out = False
        if isinstance(result, TileRecord):
            self._open = True
            return
        self._failures.append(result)
        if len(self._failures) == TRIALS:
            raise TrialError(_in_words(self._failures, grid))
        # Something may be wrong with one corner of the image only.
        self.prefer(self.spread(TRIALS - len(self._failures)))


def _in_words(failures: list[TileFailure], grid: TileGrid) -> str:
    last = failures[-1]
    what = f"{last.error}: {last.message}" if last.message else last.error
    if str(grid[last.index]) not in what:
        what = f"{grid[last.index]}: {what}"
    return (
        f"the first {len(failures)} tiles, in different places of the image, all failed, so the others were not tried "
        f"({what}); mend that and resume"
    )
