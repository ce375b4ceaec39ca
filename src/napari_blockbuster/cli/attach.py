"""Start and follow detached runs from a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from napari_blockbuster.job.shell import command
from napari_blockbuster.machine.signals import STOPPED

from .run import Interrupted, RunOptions, report
from .terminal import print_rows

if TYPE_CHECKING:
    from napari_blockbuster.detached.files import DriverState
    from napari_blockbuster.job.job import Job
    from napari_blockbuster.job.progress.bar import Progress
    from napari_blockbuster.job.progress.events import StageEvent

__all__ = ["detach", "follow"]


def detach(job: Job, asked: RunOptions, *, replace_own: bool = False) -> int:
    """Start a detached driver for a run, and print where it runs.

    Raises
    ------
    Interrupted
        On Ctrl-C while the driver starts.
    """
    from napari_blockbuster.detached import detach
    from napari_blockbuster.detached.files import DriverFiles

    ending = asked.finish(job if replace_own else None)
    try:
        with asked.workers.connect(job.n_chosen) as client:
            assert client is not None
            driver = detach(job, client, tile_timeout=asked.workers.tile_timeout, **vars(ending))
    except KeyboardInterrupt:
        raise Interrupted(f"A driver may have started. To check: {_attach(job)}") from None
    print_rows(
        [
            ("driver", driver.place),
            ("log", str(DriverFiles(job.folder).log)),
            ("follow", _attach(job)),
            ("stop", f"{_attach(job)} --stop"),
        ]
    )
    return 0


def follow(job: Job, stop: bool, quiet: bool) -> int:
    """Follow a detached driver until it finishes, and return the exit code of its run.

    Raises
    ------
    Interrupted
        On Ctrl-C. The run continues.
    JobError
        If the driver failed or died, or there is none.
    """
    from napari_blockbuster.detached import follower

    if _is_complete_without_driver(job):
        print(f"Nothing to follow: the result is complete, {job.spec.output}")
        return 0
    if stop:
        follower.stop(job)
    try:
        return _follow(job, quiet)
    except KeyboardInterrupt:
        raise Interrupted(f"To follow it again: {_attach(job)}", "The run continues") from None
    except follower.DriverStoppedError as stopped:
        print(f"Stopped. {stopped}", file=sys.stderr)
        return 0 if stop else STOPPED


def _follow(job: Job, quiet: bool) -> int:
    from napari_blockbuster.detached.files import DriverFiles
    from napari_blockbuster.job.progress.bar import Progress

    state = DriverFiles(job.folder).load()
    if state is not None and state.summary is not None:
        # The run ended before this command: there is no progress to show.
        return report(job, state.summary, quiet=True)
    with Progress(enabled=not quiet) as bar:
        ending: list[DriverState] = []
        bar.follow(_tiles(job, bar, ending))
    summary = ending[0].summary
    assert summary is not None
    return report(job, summary, quiet)


def _tiles(job: Job, bar: Progress, ending: list[DriverState]) -> Iterator[StageEvent]:
    """Yield the events of tiles. Progress of other steps goes directly to the bar."""
    from napari_blockbuster.detached import follow
    from napari_blockbuster.job.progress.events import StepProgress

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


def _is_complete_without_driver(job: Job) -> bool:
    """Return whether another process than the last detached driver completed the result."""
    from napari_blockbuster.detached.files import DriverFiles
    from napari_blockbuster.job.folder.results import result_token

    files = DriverFiles(job.folder)
    if not job.is_complete() or files.at_work() is not None:
        return False
    state = files.load()
    return state is None or state.result != result_token(job.folder)


def _attach(job: Job) -> str:
    return command(["attach", str(job.folder)])
