"""The steps of a run as generators for a thread: read a job, stage, merge. What they find travels as events; no Qt."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from napari_blockbuster.job.job import Heartbeat, Job, TileStaged
from napari_blockbuster.job.second_try import tiles_again
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.merge.region_search import LookingCancelled
from napari_blockbuster.widgets.dock.consent import consent
from napari_blockbuster.widgets.dock.plan import MergeChoice
from napari_blockbuster.widgets.layers.live import LiveLabels

from .events import TELL_EVERY, Merged, Opened, Read, Status, Summary

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["HEARTBEAT", "merge", "read_job", "read_tiles", "stage", "summary_of", "with_summary"]

HEARTBEAT = 0.1
"""Seconds after which a quiet run is looked at: the longest that a pause takes to be seen."""


def read_job(job: Job) -> Opened:
    """What a job has so far. No tile is read yet."""
    # Before its tiles are shown: an acceptance that was interrupted replaces some of them.
    job.settle()
    states = dict.fromkeys(sorted(job.store.indices("failed")), "failed")
    states |= dict.fromkeys(sorted(job.staged()), "done")
    return Opened(job, LiveLabels(job), Decisions.load(job.folder), states)


def read_tiles(opened: Opened, closed: Callable[[], bool]) -> Iterator[Any]:
    """Read the staged tiles of a job for its live layer, which shows them as they are read."""
    job = opened.job
    staged = [index for index, state in opened.states.items() if state == "done"]
    states: dict[int, str] = {}
    told = time.monotonic()
    for done, index in enumerate(staged):
        if closed():
            return
        record = job.store.record(index)
        states[index] = "done" if record.n_objects else "empty"
        opened.live.land(job.grid[index], record.n_objects)
        if time.monotonic() - told >= TELL_EVERY:
            yield Read(states)
            yield Status(f"Reading staged tiles: {done + 1:,} of {len(staged):,}")
            states, told = {}, time.monotonic()
    yield Read(states)


def summary_of(job: Job) -> Summary:
    """What is staged, what failed and what was segmented again."""
    staged = job.staged()
    return Summary(len(staged), job.failed(), frozenset(tiles_again(job.folder).keys() & staged))


def with_summary(job: Job, steps: Iterator[Any]) -> Iterator[Any]:
    """Run steps, and say at their end, also after an error, what is staged and what failed."""
    try:
        yield from steps
    except Exception:
        with contextlib.suppress(Exception):
            yield summary_of(job)
        raise
    yield summary_of(job)


def stage(
    job: Job, live: LiveLabels, tiles: list[int] | None, client: Callable[[], Client], pausing: Callable[[], bool]
) -> Iterator[Any]:
    """Stage the tiles that are not staged yet, or only `tiles`, and read each for the live layer as it lands."""
    if len(job.staged()) == job.n_tiles:
        return
    consent.check(job.model)
    # What would be refused is refused before workers are started for it.
    yield Status("Checking image and model…")
    job.check_ready(tiles)
    yield Status("Starting workers…")
    workers = client()
    yield (told := Status("Segmenting"))
    for event in job.stage(workers, tiles=tiles, heartbeat=HEARTBEAT):
        waits_for = event.waits_for if isinstance(event, Heartbeat) else ""
        if (status := Status(f"Waiting for {waits_for}" if waits_for else "Segmenting")) != told:
            yield (told := status)
        if isinstance(event, TileStaged):
            live.land(event.tile, event.record.n_objects)
        yield event
        if pausing():
            # Asked for before there was a run to cancel.
            job.cancel()


def merge(
    job: Job,
    live: LiveLabels | None,
    choice: MergeChoice,
    decisions: Decisions | None,
    verdicts: Sequence[Callable[[], object]],
    client: Callable[[], Client],
    progress: Callable[[int, int], None],
    say: Callable[[str], None],
) -> Iterator[Merged]:
    """Write the verdicts that were given, merge, and show it; nothing comes of a search for holes that was cancelled."""

    def workers() -> Client:
        # Holes are looked for in processes: in this one, it would be felt.
        say("Looking for holes")
        return client()

    for give in verdicts:
        give()
    cut, join = ((), ()) if decisions is None else (decisions.cut, decisions.join)
    # Cancelled, another merge is wanted by now.
    with contextlib.suppress(LookingCancelled):
        merged = job.merge(choice.rule, choice.min_iou, choice.connectivity, cut=cut, join=join)
        kept = job.filtered(merged, choice.filter, workers, progress)
        if live is not None:
            live.merge(kept)
        yield Merged(kept, merged)
