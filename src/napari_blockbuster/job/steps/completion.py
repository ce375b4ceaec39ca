"""The steps after the last tile: merge, write, and count.

Every driver uses them: `segment` in Python, the command line, and the driver of a detached run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_blockbuster.job.progress.summary import Summary
from napari_blockbuster.job.shell import options
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.merge.pairs import PairOfLabels, label_text, labels_of, pair_text, pairs_of
from napari_blockbuster.merge.rules import check_rule
from napari_blockbuster.output.ngff import check_version
from napari_blockbuster.output.occupant import Occupant

from .object_table import check_ranges
from .publication import check_any_staged

if TYPE_CHECKING:
    from distributed import Client

    from napari_blockbuster.job.job import Job
    from napari_blockbuster.output.result import Result, StagedMerge

__all__ = ["Finish", "Outcome", "Watch", "finish"]

AdvanceTo = Callable[[str], Callable[[int, int], None]]
"""From the name of a step to its callback ``progress(done, total)``."""


@dataclass(frozen=True)
class Finish:
    """Options of the steps after the tiles; see `napari_blockbuster.segment` for each of them.

    Raises
    ------
    ValueError
        If an option cannot be used: before the first tile, not after the last.
    """

    merge: str = "overlap"
    min_iou: float | None = None
    connectivity: int = 1
    sequential_labels: bool = True
    filter: ObjectFilter | None = None
    keep_stage: bool = False
    overwrite: bool = False
    ome_zarr_version: str | None = None
    cut: tuple[PairOfLabels, ...] = ()
    join: tuple[PairOfLabels, ...] = ()
    remove: tuple[tuple[int, int], ...] = ()
    csv: bool = False
    replaces: Occupant | None = None
    """With `overwrite`: the only thing that may be replaced. None: whatever is there when the labels are written."""

    def __post_init__(self) -> None:
        check_rule(self.merge, self.min_iou, self.connectivity)
        if self.ome_zarr_version is not None:
            check_version(self.ome_zarr_version)
        object.__setattr__(self, "remove", labels_of(self.remove, "remove"))
        # Frozen: any iterables of pairs become tuples.
        for name in ("cut", "join"):
            object.__setattr__(self, name, pairs_of(getattr(self, name), name))

    def begun(self, job: Job) -> Finish:
        """Return the options for a run that begins now: only the output that exists now may be replaced.

        Raises
        ------
        ValueError
            If the filter has a range of a column that the table will not have.
        """
        check_ranges(job.spec, self.filter)
        return replace(self, replaces=Occupant.of(Path(job.spec.output))) if self.overwrite else self

    def merged(self, job: Job, client: Client | None, advance_to: AdvanceTo) -> StagedMerge:
        """Merge the staged tiles. Decisions that a person made on this job are applied, and those of the options are added.

        Raises
        ------
        NothingStagedError
            If no tile could be segmented.
        DecisionsError
            If a decision names a label that does not exist.
        """
        check_any_staged(job.files, job.tiles)
        decisions = Decisions.load(job.folder)
        decisions.add(self.cut, self.join, self.remove)
        merged = job.merge(
            self.merge,
            self.min_iou,
            self.connectivity,
            decisions.cut,
            decisions.join,
            remove=decisions.removed,
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
            csv=self.csv,
            progress=advance_to("writing"),
        )

    def options(self) -> list[str]:
        """Return the options as typed on the command line."""
        return options(
            merge=None if self.merge == "overlap" else self.merge,
            min_iou=self.min_iou,
            connectivity=None if self.connectivity == 1 else self.connectivity,
            **({} if self.filter is None else self.filter.options()),
            cut=[pair_text(pair) for pair in self.cut],
            join=[pair_text(pair) for pair in self.join],
            remove=[label_text(label) for label in self.remove],
            overwrite=self.overwrite,
            ome_zarr=self.ome_zarr_version,
            keep_stage=self.keep_stage,
            csv=self.csv,
        )


@dataclass(frozen=True)
class Outcome:
    """A finished run, and the time that each step took.

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
    n_outside: int = 0
    n_incomplete: int = 0

    def summary(self) -> Summary:
        """Return the summary for a terminal."""
        return Summary(self.rows(), self.job.n_chosen, len(self.result.missing_tiles), written=True)

    def rows(self) -> list[tuple[str, str]]:
        """Return the numbers as (name, text)."""
        from napari_blockbuster.job.progress.bar import duration

        total, result = self.job.n_chosen, self.result
        done = total - len(result.missing_tiles)
        skipped = f", {count_text(result.n_skipped, 'tile')} skipped" if result.n_skipped else ""
        steps = ", ".join(f"{step} {duration(s)}" for step, s in self.seconds.items() if step != "total")
        merges = self.n_labels - result.n_objects - self.n_removed - self.n_outside
        rows = [("tiles", f"{done} of {total}{skipped}"), ("objects", f"{result.n_objects}")]
        rows.append(("merges", f"{merges} ({self.n_labels} labels in tiles, joined across seams)"))
        if self.n_outside:
            rows.append(("outside", f"{count_text(self.n_outside, 'object')} outside the region of interest, left out"))
        if self.n_incomplete:
            continues = "continues in a skipped tile" if self.n_incomplete == 1 else "continue in skipped tiles"
            what = count_text(self.n_incomplete, "object")
            rows.append(("incomplete", f"{what} {continues}. Enlarge the region to segment all of it"))
        if self.n_removed:
            rows.append(("left out", f"{self.n_removed} objects, by the filter"))
        if self.n_holes is not None:
            rows.append(("holes", f"{self.n_holes} filled"))
        rows += [("by hand", line) for line in self.by_hand]
        rows.append(("time", f"{duration(self.seconds['total'])} ({steps})"))
        rows += self.job.performance.rows()
        rows.append(("output", str(result.path)))
        if result.table_path is not None:
            rows.append(("table", str(result.table_path)))
        return rows


def finish(job: Job, asked: Finish, client: Client | None, advance_to: AdvanceTo, watch: Watch) -> Outcome:
    """Merge the staged tiles and write the result.

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
    at_region = merged.n_outside, merged.n_incomplete
    return Outcome(job, result, watch.seconds, merged.n_labels, merged.n_removed, n_holes, by_hand, *at_region)


class Watch:
    """Seconds of each step."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, step: str) -> None:
        """End a step. Without a name, its time counts only in the total."""
        now = time.perf_counter()
        if step:
            self.seconds[step] = now - self._last
        self._last = now

    def stop(self) -> None:
        """End the run."""
        self.seconds["total"] = time.perf_counter() - self._began
