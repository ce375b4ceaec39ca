"""The steps of a run as generators for a thread: read a job, stage, merge. What they find travels as events; no Qt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..again import tiles_again
from ..decisions import Decisions
from ..job import Heartbeat, Job, TileStaged
from ..region_pass import LookingCancelled
from .live import LiveLabels
from .plan import MergeChoice
from .run_events import Merged, Opened, Status, Summary

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["HEARTBEAT", "merge", "read_job", "stage", "summary_of"]

HEARTBEAT = 0.1
"""Seconds after which a quiet run is looked at: the longest that a pause takes to be seen."""


def read_job(job: Job) -> Opened:
    """What a job has so far."""
    live = LiveLabels(job)
    states = dict.fromkeys(job.failed(), "failed")
    for index in sorted(job.staged()):
        record = job.store.record(index)
        states[index] = "done" if record.n_objects else "empty"
        live.land(job.grid[index], record.n_objects)
    return Opened(job, live, Decisions.load(job.folder), states)


def summary_of(job: Job) -> Summary:
    """What is staged, what failed and what was segmented again."""
    return Summary(len(job.staged()), job.failed(), frozenset(tiles_again(job.folder)))


def stage(
    job: Job, live: LiveLabels, tiles: list[int] | None, client: Callable[[], Client], pausing: Callable[[], bool]
) -> Iterator[Any]:
    """Stage the tiles that are not staged yet, or only `tiles`, and read each for the live layer as it lands."""
    if len(job.staged()) == job.n_tiles:
        return
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
