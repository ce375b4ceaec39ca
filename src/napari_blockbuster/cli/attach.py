"""Leaving a run to a detached driver, and looking in on it, from a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from napari_blockbuster.job.shell import command, print_rows
from napari_blockbuster.machine.signals import STOPPED

from .console import Interrupted, Plan, report

if TYPE_CHECKING:
    from napari_blockbuster.detached.files import DriverState
    from napari_blockbuster.job.events import StageEvent
    from napari_blockbuster.job.job import Job
    from napari_blockbuster.job.progress import Progress

__all__ = ["leave", "look_in"]


def leave(job: Job, plan: Plan, *, replace_own: bool = False) -> int:
    """Start a detached driver for a run, and say where it is.

    Raises
    ------
    Interrupted
        On Ctrl-C, while the driver starts.
    """
    from napari_blockbuster.detached import detach
    from napari_blockbuster.detached.files import DriverFiles

    asked = plan.finish(job if replace_own else None)
    try:
        with plan.crew.at_work(job.n_tiles) as client:
            assert client is not None
            driver = detach(job, client, tile_timeout=plan.crew.tile_timeout, **vars(asked))
    except KeyboardInterrupt:
        raise Interrupted(f"a driver may have started; see with: {_attach(job)}") from None
    print_rows(
        [
            ("driver", driver.place),
            ("log", str(DriverFiles(job.folder).log)),
            ("look in", _attach(job)),
            ("stop", f"{_attach(job)} --stop"),
        ]
    )
    return 0


def look_in(job: Job, stop: bool, quiet: bool) -> int:
    """Follow a detached driver to its end; returns the exit code of its run.

    Raises
    ------
    Interrupted
        On Ctrl-C: the run goes on.
    JobError
        If the driver failed or is gone, or there is none.
    """
    from napari_blockbuster.detached import follower

    if _is_old_news(job):
        print(f"nothing to look in on: the result is complete, {job.spec.output}")
        return 0
    if stop:
        follower.stop(job)
    try:
        return _follow(job, quiet)
    except KeyboardInterrupt:
        raise Interrupted(f"look in again with: {_attach(job)}", "the run goes on") from None
    except follower.DriverStoppedError as stopped:
        print(f"stopped; {stopped}", file=sys.stderr)
        return 0 if stop else STOPPED


def _follow(job: Job, quiet: bool) -> int:
    from napari_blockbuster.detached.files import DriverFiles
    from napari_blockbuster.job.progress import Progress

    state = DriverFiles(job.folder).load()
    if state is not None and state.summary is not None:
        # It had ended before: there is no progress to show.
        return report(job, state.summary, quiet=True)
    with Progress(enabled=not quiet) as bar:
        ending: list[DriverState] = []
        bar.follow(_tiles(job, bar, ending))
    summary = ending[0].summary
    assert summary is not None
    return report(job, summary, quiet)


def _tiles(job: Job, bar: Progress, ending: list[DriverState]) -> Iterator[StageEvent]:
    """The events of tiles; those of other steps go to the bar at once."""
    from napari_blockbuster.detached import follow
    from napari_blockbuster.job.events import StepProgress

    events = follow(job)
    while True:
        try:
            event = next(events)
        except StopIteration as end:
            ending.append(end.value)
            return
        if isinstance(event, StepProgress):
            bar.advance_to(event.step)(event.done, event.total)
        else:
            yield event


def _is_old_news(job: Job) -> bool:
    """Whether the result was completed by somebody else than the last detached driver."""
    from napari_blockbuster.detached.files import DriverFiles
    from napari_blockbuster.job.results import result_token

    files = DriverFiles(job.folder)
    if not job.is_complete() or files.at_work() is not None:
        return False
    state = files.load()
    return state is None or state.result != result_token(job.folder)


def _attach(job: Job) -> str:
    return command(["attach", str(job.folder)])
