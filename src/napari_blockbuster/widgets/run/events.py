"""What the threads of a run tell the viewer, and what they share with it."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass

from napari_blockbuster.job.job import Job
from napari_blockbuster.job.progress import Pace
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.output.result import StagedMerge
from napari_blockbuster.stage.store import TileFailure
from napari_blockbuster.widgets.layers.live import LiveLabels

__all__ = ["TELL_EVERY", "Life", "Merged", "Meter", "Opened", "Progress", "Read", "Status", "Stopped", "Summary"]

TELL_EVERY = 0.5
"""Seconds between two updates of the progress: each repaints the dock, and nobody reads faster."""


@dataclass(frozen=True)
class Progress:
    """How far a step is.

    Attributes
    ----------
    rate : float
        Tiles per second; 0 while it is not known.
    seconds_left : float or None
    """

    done: int
    total: int
    failed: int = 0
    rate: float = 0.0
    seconds_left: float | None = None


@dataclass(frozen=True)
class Opened:
    """A job, what it has so far, and the state of each tile that is not waiting."""

    job: Job
    live: LiveLabels
    decisions: Decisions
    states: dict[int, str]


@dataclass(frozen=True)
class Read:
    """States of staged tiles that were read for the live layer since the last such event."""

    states: dict[int, str]


@dataclass(frozen=True)
class Status:
    """What happens now, in words."""

    text: str


@dataclass(frozen=True)
class Summary:
    """What is staged and what failed, once a run has ended; and which tiles were segmented again since."""

    n_staged: int
    failures: dict[int, TileFailure]
    again: frozenset[int]


@dataclass(frozen=True)
class Merged:
    """A merge as it is shown, and before its filter."""

    kept: StagedMerge
    unfiltered: StagedMerge


class Stopped(Exception):
    """The user stopped a write."""


class Meter:
    """How far a run is and how fast it gets there; says when that is worth showing. For the GUI thread."""

    def __init__(self) -> None:
        self.progress = Progress(0, 0)
        self._pace: Pace | None = None
        self._told = 0.0

    def begin(self, failed: int = 0) -> None:
        """A run (or its continuation) begins: `failed` tiles failed before and are not tried again."""
        self._pace = None
        self.progress = Progress(self.progress.done, self.progress.total, failed)

    def report(self, done: int, total: int, failed: int, new: int = 0) -> bool:
        """Note how far it is; `new` tiles are news. Returns whether to show it: twice a second, or if a tile failed."""
        # From the first report on, which comes when workers are up: their start says nothing of the tiles.
        self._pace = pace = self._pace or Pace()
        pace.report(done + failed, total, new)
        more_failed = failed != self.progress.failed
        self.progress = Progress(done, total, failed, pace.rate or 0.0, pace.left)
        now = time.monotonic()
        if now - self._told < TELL_EVERY and not more_failed and done + failed < total:
            return False
        self._told = now
        return True


class Life:
    """What the threads of a `RunControl` share with it, and what outlives it.

    Attributes
    ----------
    generation : int
        Counts the jobs that were let go of.
    job : Job or None
        The one that may be running.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.job: Job | None = None

    def end(self) -> None:
        """Let go of the job: its run stops, its threads are no longer heard."""
        self.generation += 1
        # Whoever leaves in the middle of a run leaves the collector as it was found.
        self.spare_viewer(False)
        job, self.job = self.job, None
        if job is not None:
            job.cancel()

    def spare_viewer(self, on: bool) -> None:
        """While tiles stream, let the collector look only through what came since.

        Looking through all of napari's objects for garbage stops the viewer for a quarter of a second.
        """
        (gc.freeze if on else gc.unfreeze)()
