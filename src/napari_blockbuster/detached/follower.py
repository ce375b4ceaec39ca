"""Follow a detached run and request that it stop.

A follower reads the disk only: the markers of the tiles, and the state of the driver in ``driver.json``.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_blockbuster.job.folder.lock import BEAT
from napari_blockbuster.job.progress.events import Heartbeat, StageEvent, StepProgress, TileFailed, TileStaged
from napari_blockbuster.job.shell import command
from napari_blockbuster.machine.errors import JobError

from .files import DriverFiles, DriverState

if TYPE_CHECKING:
    from napari_blockbuster.job.job import Job

__all__ = [
    "DriverFailedError",
    "DriverGoneError",
    "DriverStoppedError",
    "Events",
    "follow",
    "resume_command",
    "stop",
]

LOOK = 1.0
"""Seconds between two looks."""
MISSED = 3
"""Signs of life of a driver that may be missed before it is reported as asleep."""
SILENT = 3.0
"""Seconds without any change before the lock of the driver is checked."""

Events = Generator[StageEvent | StepProgress, None, DriverState]


class DriverGoneError(JobError):
    """The driver died."""


class DriverFailedError(JobError):
    """The driver ended with an error."""


class DriverStoppedError(JobError):
    """The driver was stopped: by request, or by a signal."""


def follow(job: Job, look: float = LOOK) -> Events:
    """Follow a detached run, from any machine that sees the job folder, as often as you like.

    Parameters
    ----------
    job : Job
    look : float
        Seconds between two looks at the job folder.

    Yields
    ------
    TileStaged, TileFailed, Heartbeat or StepProgress
        A tile as it lands (tiles that landed before are counted in the first `Heartbeat`), a `Heartbeat` at each look without
        one, and the progress of writing.

    Returns
    -------
    DriverState
        The final state of the driver.

    Raises
    ------
    DriverStoppedError, DriverFailedError, DriverGoneError
        If the run did not finish.
    JobError
        If there never was a detached run.
    """
    return _Follower(job).events(look)


def stop(job: Job) -> DriverState:
    """Request that a detached run stop. It stops after the tiles that run now; `follow` ends then.

    Raises
    ------
    JobError
        If none is running.
    """
    files = DriverFiles(job.folder)
    state = files.at_work()
    if state is None:
        raise JobError(f"No detached driver is running on {job.folder}.")
    files.ask_to_stop(state)
    return state


def resume_command(folder: Path, state: DriverState) -> str:
    """Return the command that resumes the run of a driver on the same cluster."""
    return command(["resume", str(folder), *state.again, "--scheduler", state.scheduler])


class _Follower:
    def __init__(self, job: Job) -> None:
        self._job, self._files = job, DriverFiles(job.folder)
        self._seen: set[int] | None = None
        self._told: set[int] = set()
        self._last: tuple[DriverState, int] | None = None
        self._sign_of_life = time.monotonic() - SILENT
        self._waits_for = ""

    def events(self, look: float) -> Events:
        while True:
            # The state first: the markers of all that it counts are there by then.
            state = self._state()
            yield from self._news(state)
            if state.end:
                return self._ended(state)
            gone = not self._is_alive()
            time.sleep(look)
            # Checked twice: the driver may just have finished, or a network disk may have been away.
            if gone and self._state() == state and not self._files.is_alive():
                raise self._gone(state)

    def _state(self) -> DriverState:
        state = self._files.load()
        if state is None and self._last is not None:
            # A network disk may be away for a moment.
            state = self._last[0]
        if state is not None:
            return state
        start = command(["resume", str(self._job.folder), "--scheduler", "tcp://...", "--detach"])
        raise JobError(f"No detached driver has run on {self._job.folder}. To start one: {start}")

    def _news(self, state: DriverState) -> Generator[StageEvent | StepProgress, None, None]:
        landed, total = self._landed(), self._job.n_chosen
        seen = len(self._seen or ())
        for number, index in enumerate(landed, seen - len(landed) + 1):
            yield self._staged(index, number)
        failed = [index for index in state.failed if index not in self._told]
        self._told.update(failed)
        for index in failed:
            yield TileFailed(self._job.grid[index], self._job.tiles.failure(index), max(seen, state.staged), total)
        # Count the tiles that were staged and deleted between two looks.
        if seen < state.staged or not (landed or failed):
            yield Heartbeat(max(seen, state.staged), total, self._waits_for)
        news = (state, seen)
        if self._last != news:
            if self._last is not None:
                self._sign_of_life = time.monotonic()
            self._last = news
            if state.total:
                yield StepProgress(state.step, state.done, state.total)

    def _landed(self) -> list[int]:
        """Return the tiles that were staged since the last look; none at the first look."""
        before = self._seen
        try:
            # Tiles that a larger region left behind are not counted by the driver either.
            self._seen = {index for index in self._job.tiles.staged() if self._job.tiles.chosen[index]}
        except FileNotFoundError:
            # The result is complete and the tiles were deleted.
            self._seen = before or set()
        return [] if before is None else sorted(self._seen - before)

    def _staged(self, index: int, done: int) -> StageEvent:
        try:
            return TileStaged(self._job.grid[index], self._job.tiles.record(index), done, self._job.n_chosen)
        except (OSError, ValueError):
            # Deleted with all tiles of a complete result, or damaged, which `info --check` reports.
            return Heartbeat(done, self._job.n_chosen)

    def _is_alive(self) -> bool:
        """Whether the driver makes progress or holds its lock. The lock is checked only after a while without progress."""
        now = time.monotonic()
        if now - self._sign_of_life < SILENT:
            self._waits_for = ""
            return True
        self._sign_of_life = now
        state = self._files.load()
        self._waits_for = ""
        if state is not None and self._files.silence() > MISSED * BEAT:
            self._waits_for = f"a sign of life of the driver ({state.place}): it is stopped or asleep"
        return self._files.is_alive()

    def _ended(self, state: DriverState) -> DriverState:
        if state.end == "failed":
            raise DriverFailedError(state.error)
        if state.end == "stopped":
            again = resume_command(self._job.folder, state)
            raise DriverStoppedError(f"{state.staged} of {state.n_tiles} tiles are done. To resume: {again}")
        return state

    def _gone(self, state: DriverState) -> DriverGoneError:
        again = resume_command(self._job.folder, state)
        return DriverGoneError(
            f"The detached driver (process {state.pid} on {state.host}) stopped responding at {state.progress}. "
            f"Finished tiles are safe. To resume: {again}"
        )
