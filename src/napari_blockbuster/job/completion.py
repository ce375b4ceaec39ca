"""What comes after the last tile: the merge, the result, and the numbers of the whole run.

One place for it, whoever drives: a call in Python, the command line, or a driver that was left alone beside a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.merge.mapping import check_rule
from napari_blockbuster.output.occupant import Occupant

from .publication import check_any_staged
from .shell import options
from .summary import Summary

if TYPE_CHECKING:
    from distributed import Client

    from napari_blockbuster.output.result import Result, StagedMerge

    from .job import Job

__all__ = ["Finish", "Outcome", "Watch", "finish"]

AdvanceTo = Callable[[str], Callable[[int, int], None]]
"""For the name of a step, what is told how far it is: ``progress(done, total)``."""


@dataclass(frozen=True)
class Finish:
    """What is asked for besides the tiles; see `napari_blockbuster.segment` for each of them.

    Raises
    ------
    ValueError
        For what no merge takes or no writer writes: before the first tile, not after the last.
    """

    merge: str = "overlap"
    min_iou: float | None = None
    connectivity: int = 1
    sequential_labels: bool = True
    filter: ObjectFilter | None = None
    keep_stage: bool = False
    overwrite: bool = False
    ome_zarr_version: str | None = None
    replaces: Occupant | None = None
    """With `overwrite`: the only thing that may be replaced. None: whatever is there when the labels are written."""

    def __post_init__(self) -> None:
        check_rule(self.merge, self.min_iou, self.connectivity)
        if self.ome_zarr_version not in (None, "0.4", "0.5"):
            raise ValueError(f"OME-Zarr version {self.ome_zarr_version!r} cannot be written; choose '0.5' or '0.4'")

    def begun(self, job: Job) -> Finish:
        """The same for a run that begins now: only what is at the output's place now may be replaced."""
        return replace(self, replaces=Occupant.of(Path(job.spec.output))) if self.overwrite else self

    def merged(self, job: Job, client: Client | None, advance_to: AdvanceTo) -> StagedMerge:
        """Merge what is staged; verdicts that a person gave on an earlier look at the job hold.

        Raises
        ------
        NothingStagedError
            If no tile could be segmented: there is no result then.
        """
        check_any_staged(job.files, job.tiles)
        verdicts = Decisions.load(job.folder)
        merged = job.merge(
            self.merge,
            self.min_iou,
            self.connectivity,
            verdicts.cut,
            verdicts.join,
            sequential_labels=self.sequential_labels,
            client=client,
        )
        return merged if self.filter is None else job.filtered(merged, self.filter, client, advance_to("holes"))

    def written(self, job: Job, merged: StagedMerge, client: Client | None, advance_to: AdvanceTo) -> Result:
        """Write the merged labels and put them in place."""
        return job.write(
            merged,
            client,
            overwrite=self.replaces if self.overwrite and self.replaces is not None else self.overwrite,
            keep_stage=self.keep_stage,
            ome_zarr_version=self.ome_zarr_version,
            progress=advance_to("writing"),
        )

    def options(self) -> list[str]:
        """As typed on the command line."""
        return options(
            merge=None if self.merge == "overlap" else self.merge,
            min_iou=self.min_iou,
            connectivity=None if self.connectivity == 1 else self.connectivity,
            **({} if self.filter is None else self.filter.settings()),
            overwrite=self.overwrite,
            ome_zarr=self.ome_zarr_version,
            keep_stage=self.keep_stage,
        )


@dataclass(frozen=True)
class Outcome:
    """A finished run and how long its steps took.

    Attributes
    ----------
    result : Result
    seconds : dict of str to float
        Start of the workers, staging, merge, writing, total.
    """

    job: Job
    result: Result
    seconds: dict[str, float]
    n_labels: int = 0
    n_removed: int = 0
    n_holes: int | None = None
    by_hand: tuple[str, ...] = ()

    def summary(self) -> Summary:
        """What is told at the end."""
        return Summary(self.rows(), self.job.n_tiles, len(self.result.missing_tiles), written=True)

    def rows(self) -> list[tuple[str, str]]:
        """The numbers, as (name, text)."""
        from .progress import duration

        total, result = self.job.n_tiles, self.result
        done = total - len(result.missing_tiles)
        steps = ", ".join(f"{step} {duration(s)}" for step, s in self.seconds.items() if step != "total")
        merges = self.n_labels - result.n_objects - self.n_removed
        rows = [("tiles", f"{done} of {total}"), ("objects", f"{result.n_objects}")]
        rows.append(("merges", f"{merges} ({self.n_labels} labels in tiles, joined across seams)"))
        if self.n_removed:
            rows.append(("left out", f"{self.n_removed} objects, by size or at the image's edge"))
        if self.n_holes is not None:
            rows.append(("holes", f"{self.n_holes} filled"))
        rows += [("by hand", line) for line in self.by_hand]
        rows.append(("time", f"{duration(self.seconds['total'])} ({steps})"))
        rows.append(("output", str(result.path)))
        return rows


def finish(job: Job, asked: Finish, client: Client | None, advance_to: AdvanceTo, watch: Watch) -> Outcome:
    """Merge and write what is staged.

    Raises
    ------
    NothingStagedError
        If no tile could be segmented.
    """
    merged = asked.merged(job, client, advance_to)
    watch.lap("merge")
    by_hand = tuple(Decisions.load(job.folder).lines())
    result = asked.written(job, merged, client, advance_to)
    watch.lap("writing")
    watch.stop()
    n_holes = None if merged.filled is None else merged.filled.n_holes
    return Outcome(job, result, watch.seconds, merged.n_labels, merged.n_removed, n_holes, by_hand)


class Watch:
    """Seconds of each step."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, step: str) -> None:
        """The end of a step; without a name, its time counts for nothing but the total."""
        now = time.perf_counter()
        if step:
            self.seconds[step] = now - self._last
        self._last = now

    def stop(self) -> None:
        """The end of the run."""
        self.seconds["total"] = time.perf_counter() - self._began
