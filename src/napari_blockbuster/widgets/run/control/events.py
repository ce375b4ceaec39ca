"""Events that the threads of a run send to the viewer, and the state they share with it."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass

from napari_blockbuster.job.job import Job
from napari_blockbuster.job.progress.bar import Pace
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.output.result import StagedMerge
from napari_blockbuster.stage.store import TileFailure
from napari_blockbuster.widgets.layers.of_job.live import LiveLabels

from .earlier_result import EarlierResult

__all__ = [
    "UPDATE_INTERVAL",
    "Merged",
    "Meter",
    "Opened",
    "RunLifetime",
    "StagingOutcome",
    "Status",
    "StepProgress",
    "Stopped",
    "TilesRead",
]

UPDATE_INTERVAL = 0.5
"""Seconds between two progress updates. Each one repaints the dock."""


LEAST_SECONDS = 1.0
"""Of a run before its rate is shown."""


@dataclass(frozen=True)
class StepProgress:
    """Progress of a step: staging, merging or writing.

    Attributes
    ----------
    done, total : int
        A total of 0 is not known yet.
    rate : float
        Tiles per second; 0 while unknown.
    seconds_left : float or None
    in_tiles : bool
        Whether tiles are counted. Otherwise these are parts of work, shown in percent.
    """

    done: int
    total: int
    failed: int = 0
    rate: float = 0.0
    seconds_left: float | None = None
    in_tiles: bool = True


@dataclass(frozen=True)
class Opened:
    """A job that was opened, and its tiles so far.

    Attributes
    ----------
    states : dict of int to str
        State of each tile that is not waiting.
    unread : list of int
        Staged tiles that the live layer does not show yet. `TileReader` shortens the list.
    earlier : EarlierResult or None
        What the job wrote before.
    """

    job: Job
    live: LiveLabels
    decisions: Decisions
    states: dict[int, str]
    unread: list[int]
    earlier: EarlierResult | None = None


@dataclass(frozen=True)
class TilesRead:
    """States of the staged tiles that were read for the live layer since the previous such event."""

    states: dict[int, str]


@dataclass(frozen=True)
class Status:
    """Text for the status line."""

    text: str


@dataclass(frozen=True)
class StagingOutcome:
    """Tiles of a job when staging ends: how many are staged, which failed, and which were segmented again."""

    n_staged: int
    failures: dict[int, TileFailure]
    again: frozenset[int]


@dataclass(frozen=True)
class Merged:
    """A merge after and before its object filter."""

    kept: StagedMerge
    unfiltered: StagedMerge


class Stopped(Exception):
    """The user stopped a step, or closed its job."""


class Meter:
    """Progress and rate of a staging run. Use it in the GUI thread."""

    def __init__(self) -> None:
        self.progress = StepProgress(0, 0)
        self._pace: Pace | None = None
        self._updated = 0.0

    def begin(self, failed: int = 0) -> None:
        """Start or resume a run. `failed` tiles failed earlier and are not tried again."""
        self._pace = None
        self.progress = StepProgress(self.progress.done, self.progress.total, failed)

    def report(self, done: int, total: int, failed: int, new: int = 0) -> bool:
        """Record progress.

        Parameters
        ----------
        done, total, failed : int
        new : int, default 0
            Tiles that finished since the previous report.

        Returns
        -------
        bool
            Whether to show it: twice a second, after a failure, and at the end.
        """
        # The first report comes when workers are up, so their start does not count, nor does a tile that it brings.
        is_first = self._pace is None
        self._pace = pace = self._pace or Pace()
        pace.report(done + failed, total, 0 if is_first else new)
        more_failed = failed != self.progress.failed
        # A few tiles that end at once say little about the others.
        is_known = pace.rate is not None and pace.seconds >= LEAST_SECONDS
        self.progress = StepProgress(
            done, total, failed, (pace.rate or 0.0) if is_known else 0.0, pace.left if is_known else None
        )
        now = time.monotonic()
        if now - self._updated < UPDATE_INTERVAL and not more_failed and done + failed < total:
            return False
        self._updated = now
        return True

    def end(self, done: int, total: int, failed: int) -> None:
        """Record the progress at the end of a run, without its rate."""
        self.progress = StepProgress(done, total, failed)


class RunLifetime:
    """State that the threads of a run share with the viewer, and that outlives the dock.

    Attributes
    ----------
    generation : int
        Number of jobs that were closed.
    job : Job or None
        The job that may be running.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.job: Job | None = None

    def end(self) -> None:
        """Close the job: stop its run, and ignore what its threads still send."""
        self.generation += 1
        # The garbage collector is restored, also when the viewer closes during a run.
        self.spare_viewer(False)
        job, self.job = self.job, None
        if job is not None:
            job.cancel()

    def spare_viewer(self, on: bool) -> None:
        """Restrict garbage collection to new objects while tiles stream in.

        A collection that visits all objects of napari blocks the viewer for a quarter of a second.
        """
        (gc.freeze if on else gc.unfreeze)()
