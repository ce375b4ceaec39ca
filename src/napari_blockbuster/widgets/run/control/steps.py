"""Steps of a run as generators for a thread: open a job, read its tiles, stage, merge, delete. No Qt."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_blockbuster.job.job import Heartbeat, Job, TileStaged
from napari_blockbuster.job.steps.second_try import tiles_again
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.merge.holes.region_search import RegionSearchCanceled
from napari_blockbuster.widgets.choices.consent import consent
from napari_blockbuster.widgets.choices.plan import MergeChoice
from napari_blockbuster.widgets.layers.of_job.live import LiveLabels
from napari_blockbuster.widgets.session import Session

from .earlier_result import EarlierResult
from .events import UPDATE_INTERVAL, Merged, Opened, StagingOutcome, Status, TilesRead

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "HEARTBEAT",
    "MergeStep",
    "delete_job",
    "open_job",
    "read_tiles",
    "stage",
    "staging_outcome",
    "with_outcome",
]

HEARTBEAT = 0.1
"""Seconds between two events of a quiet run. It is the longest delay until a pause is noticed."""
LAST_TILES = 120.0
"""Seconds that the tiles which run when a job is paused get to finish before the job is deleted."""


def open_job(job: Job) -> Opened:
    """Return what a job has so far. No tile is read yet."""
    # First of all: an interrupted acceptance replaces some tiles.
    job.settle()
    staged = sorted(job.staged())
    states = dict.fromkeys(job.tiles.all_failed(), "failed") | dict.fromkeys(staged, "done")
    return Opened(job, LiveLabels(job), Decisions.load(job.folder), states, staged, EarlierResult.of(job))


def read_tiles(live: LiveLabels, unread: list[int], stopped: Callable[[], bool]) -> Iterator[TilesRead | Status]:
    """Read staged tiles for the live layer, and clear tiles that are no longer staged.

    Parameters
    ----------
    live : LiveLabels
    unread : list of int
        Tiles to read. Each is removed once it is read, so that a later call continues.
    stopped : callable
        Says whether to stop.
    """
    job, total = live.job, len(unread)
    states: dict[int, str] = {}
    updated = time.monotonic()
    while unread and not stopped():
        index = unread[0]
        if job.tiles.is_staged(index):
            n_objects = job.tiles.record(index).n_objects
            states[index] = "done" if n_objects else "empty"
            live.land(job.grid[index], n_objects)
        else:
            states[index] = "waiting"
            live.remove(job.grid[index])
        del unread[0]
        if time.monotonic() - updated >= UPDATE_INTERVAL:
            yield TilesRead(states)
            yield Status(f"Reading staged tiles: {total - len(unread):,} of {total:,}")
            states, updated = {}, time.monotonic()
    if states:
        yield TilesRead(states)


def staging_outcome(job: Job) -> StagingOutcome:
    """Return which tiles are staged, failed and segmented again."""
    staged = job.staged()
    return StagingOutcome(
        job.tiles.among_chosen(staged), job.failed(), frozenset(tiles_again(job.folder).keys() & staged)
    )


def with_outcome(job: Job, steps: Iterator[Any]) -> Iterator[Any]:
    """Run steps, then yield the `StagingOutcome`, also after an error."""
    try:
        yield from steps
    except Exception:
        with contextlib.suppress(Exception):
            yield staging_outcome(job)
        raise
    yield staging_outcome(job)


def delete_job(job: Job, session: Session) -> None:
    """Delete a job: its tiles, settings and decisions. Its result and other files in its folder are kept.

    Raises
    ------
    JobLockedError
        If another process works on it.
    """
    # A worker that finishes a tile after the deletion would create the folder again.
    session.wait_until_idle(LAST_TILES)
    job.files.delete()


def stage(
    job: Job, live: LiveLabels, tiles: list[int] | None, client: Callable[[], Client], is_pausing: Callable[[], bool]
) -> Iterator[Any]:
    """Stage the tiles that are not staged yet, or only `tiles`. Read each tile for the live layer when it arrives."""
    if not job.tiles.missing(job.staged()):
        return
    consent.check(job.model)
    # Errors that can be found without workers come before workers are started.
    yield Status("Checking image and model…")
    job.check_ready(tiles)
    yield Status("Starting workers…")
    workers = client()
    yield (shown := Status("Segmenting"))
    for event in job.stage(workers, tiles=tiles, heartbeat=HEARTBEAT):
        waits_for = event.waits_for if isinstance(event, Heartbeat) else ""
        if (status := Status(f"Waiting for {waits_for}" if waits_for else "Segmenting")) != shown:
            yield (shown := status)
        if isinstance(event, TileStaged):
            live.land(event.tile, event.record.n_objects)
        yield event
        if is_pausing():
            # The user may have paused before there was a run to cancel.
            job.cancel()


@dataclass(frozen=True)
class MergeStep:
    """One merge, and the changes of decisions that come before it.

    Attributes
    ----------
    job : Job
    live : LiveLabels
        Shows the merge.
    unread : list of int
        Staged tiles that the live layer does not show yet.
    choice : MergeChoice
    decisions : Decisions or None
    changes : sequence of callable
        Change and save the decisions.
    client : callable
        Return a client; called only to search for holes.
    progress : callable
        Called with the number of tiles done and in total.
    say : callable
        Called with texts for the status line.
    is_closed : callable
        Whether the job was closed meanwhile.
    """

    job: Job
    live: LiveLabels
    unread: list[int]
    choice: MergeChoice
    decisions: Decisions | None
    changes: Sequence[Callable[[], object]]
    client: Callable[[], Client]
    progress: Callable[[int, int], None]
    say: Callable[[str], None]
    is_closed: Callable[[], bool]

    def run(self) -> Iterator[Any]:
        """Change the decisions, merge, and yield a `Merged`. A canceled search for holes yields nothing."""
        for change in self.changes:
            change()
        yield from read_tiles(self.live, self.unread, self.is_closed)
        choice, decisions = self.choice, self.decisions
        given = {} if decisions is None else {"cut": decisions.cut, "join": decisions.join, "remove": decisions.removed}
        # The search is canceled when the user chooses another merge.
        with contextlib.suppress(RegionSearchCanceled):
            merged = self.job.merge(choice.rule, choice.min_iou, choice.connectivity, **given)
            kept = self.job.filtered(merged, choice.filter, self._workers, self.progress)
            self.live.merge(kept)
            yield Merged(kept, merged)

    def _workers(self) -> Client:
        # The search runs in worker processes, because in this process it would block the viewer.
        self.say("Looking for holes")
        return self.client()
