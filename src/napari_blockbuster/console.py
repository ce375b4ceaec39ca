"""A job run from a terminal: its workers, its progress, the numbers at the end, and how to go on after a stop."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from .terminal import command, options, print_rows

if TYPE_CHECKING:
    from distributed import Client

    from .filters import ObjectFilter
    from .job import Job
    from .output import Result
    from .progress import Progress

__all__ = [
    "Crew",
    "Decision",
    "Interrupted",
    "Outcome",
    "Plan",
    "UsageError",
    "Writing",
    "check_free",
    "command",
    "print_rows",
    "report",
    "run_job",
]


class UsageError(ValueError):
    """Options that cannot be used together, or a value that cannot be understood."""


class Interrupted(KeyboardInterrupt):
    """The run was stopped by the user or the system; finished tiles are on disk.

    Attributes
    ----------
    advice : str
        The command that goes on from here.
    """

    def __init__(self, advice: str) -> None:
        super().__init__(advice)
        self.advice = advice


@Parameter(name="*")
@dataclass(frozen=True)
class Crew:
    """Who segments the tiles.

    Attributes
    ----------
    workers
        Processes on this machine; 0 runs in this process. Default: one per CPU, and none for a single tile.
    gpu
        One worker per GPU.
    scheduler
        Address of a dask cluster that runs already, as tcp://host:8786.
    tile_timeout
        Seconds after which a tile counts as hanging; its process is ended, and it is tried once more. Needs processes.
    """

    workers: int | None = None
    gpu: bool = False
    scheduler: str | None = None
    tile_timeout: float | None = None

    def check(self) -> None:
        """Refuse options that contradict each other."""
        if self.scheduler is not None and (self.gpu or self.workers is not None):
            raise UsageError("--scheduler uses the workers of that cluster; leave --workers and --gpu out")
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"--workers is {self.workers}; give a number of processes, or 0 for this process alone")
        if self.gpu and self.workers == 0:
            raise UsageError("--workers 0 runs in this process; leave it out to run one worker per GPU")
        if self.tile_timeout is not None and not self.tile_timeout > 0:
            raise UsageError(f"--tile-timeout is {self.tile_timeout:g}; it is in seconds, above 0")
        if self.tile_timeout is not None and self.workers == 0:
            raise UsageError("--tile-timeout needs processes: one that hangs is ended; give --workers 1 or more")

    @contextlib.contextmanager
    def at_work(self, n_tiles: int) -> Iterator[Client | None]:
        """The client of a cluster that is closed at the end, however that comes; None for this process."""
        self.check()
        if self.scheduler is not None:
            from .cluster import connect

            _knock(self.scheduler)
            client = connect(self.scheduler, timeout=30)
            try:
                yield client
            finally:
                client.close()
            return
        n_workers = self._processes(n_tiles)
        if n_workers == 0:
            yield None
            return
        from .cluster import make_local_cluster

        client, cluster = make_local_cluster(use_gpu=self.gpu, n_workers=n_workers)
        try:
            yield client
        finally:
            # The workers go first, or the client would complain about a scheduler that left.
            with contextlib.suppress(Exception):
                client.close(timeout=2)
            cluster.close()

    def _processes(self, n_tiles: int) -> int | None:
        if self.workers is not None or self.gpu:
            return self.workers
        from .cluster import cpu_count

        wanted = min(cpu_count(), n_tiles)
        return wanted if wanted > 1 or (wanted == 1 and self.tile_timeout is not None) else 0

    def options(self) -> list[str]:
        """As typed on the command line."""
        return options(workers=self.workers, gpu=self.gpu, scheduler=self.scheduler, tile_timeout=self.tile_timeout)


def _knock(address: str) -> None:
    """Refuse an address where nothing listens: dask itself would go on trying for as long as its timeout."""
    import socket
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise UsageError(f"--scheduler is {address!r}; it is an address as tcp://host:8786")
    try:
        socket.create_connection((host, port), timeout=30).close()
    except OSError as error:
        why = f"no dask scheduler answers at {address} ({error.strerror or error})"
        raise ConnectionError(f"{why}; start one with: dask scheduler") from None


@Parameter(name="*")
@dataclass(frozen=True)
class Decision:
    """Which labels become one object.

    Attributes
    ----------
    rule
        Which labels are one object across a seam.
    min_iou
        Threshold of the rules overlap and face, from 0 to 1. Default: the rule's own.
    connectivity
        For the rule touch: 1 joins voxels that share a face, 2 an edge, 3 a corner.
    min_size
        Leave out objects of fewer voxels than this, counted across tiles.
    max_size
        Leave out objects of more voxels than this.
    drop_border
        Leave out objects that the edge of the image cuts.
    fill_holes
        Fill the holes of each object: background with this one object all around it. Sizes count with them.
    max_hole_size
        With --fill-holes: leave holes of more voxels than this.
    """

    rule: Annotated[Literal["overlap", "face", "touch", "none"], Parameter(name=["--merge", "--rule"])] = "overlap"
    min_iou: float | None = None
    connectivity: Literal[1, 2, 3] = 1
    min_size: int | None = None
    max_size: int | None = None
    drop_border: bool = False
    fill_holes: bool = False
    max_hole_size: int | None = None

    def filter(self) -> ObjectFilter:
        """Which merged objects are kept."""
        from .filters import ObjectFilter

        return ObjectFilter(self.min_size, self.max_size, self.drop_border, self.fill_holes, self.max_hole_size)

    def check(self) -> None:
        """Refuse what no merge takes: before the first tile, not after the last."""
        if self.min_iou is not None and not 0 <= self.min_iou <= 1:
            raise UsageError(f"--min-iou is {self.min_iou}; it is a share of the common area, from 0 to 1")
        try:
            self.filter()
        except ValueError as error:
            raise UsageError(str(error)) from None

    def options(self) -> list[str]:
        """As typed on the command line."""
        rule = None if self.rule == "overlap" else self.rule
        connectivity = None if self.connectivity == 1 else self.connectivity
        return options(
            merge=rule,
            min_iou=self.min_iou,
            connectivity=connectivity,
            min_size=self.min_size,
            max_size=self.max_size,
            drop_border=self.drop_border,
            fill_holes=self.fill_holes,
            max_hole_size=self.max_hole_size,
        )


@Parameter(name="*")
@dataclass(frozen=True)
class Writing:
    """How the result is written.

    Attributes
    ----------
    overwrite
        Replace an existing output.
    ome_zarr
        Version of the output: 0.5 is zarr v3 with shards, 0.4 is zarr v2. Default: that of the image around it, else 0.5.
    quiet
        No progress.
    """

    overwrite: bool = False
    ome_zarr: Literal["0.5", "0.4"] | None = None
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False

    def options(self) -> list[str]:
        """As typed on the command line."""
        return options(overwrite=self.overwrite, ome_zarr=self.ome_zarr, quiet=self.quiet)


@dataclass(frozen=True)
class Outcome:
    """A finished run and how long its steps took.

    Attributes
    ----------
    result : Result or None
        None if no tile could be segmented: then nothing was written.
    seconds : dict of str to float
        Start of the workers, staging, merge, writing, total.
    """

    job: Job
    result: Result | None
    seconds: dict[str, float]
    n_labels: int = 0
    n_removed: int = 0
    n_holes: int | None = None
    by_hand: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or 1 if tiles are missing from the result."""
        return 0 if self.result is not None and not self.result.missing_tiles else 1

    def rows(self) -> list[tuple[str, str]]:
        """The numbers, as (name, text)."""
        from .progress import duration

        total, result = self.job.n_tiles, self.result
        done = total - (len(result.missing_tiles) if result is not None else total)
        steps = ", ".join(f"{step} {duration(s)}" for step, s in self.seconds.items() if step != "total")
        rows = [("tiles", f"{done} of {total}")]
        if result is not None:
            merges = self.n_labels - result.n_objects - self.n_removed
            rows.append(("objects", f"{result.n_objects}"))
            rows.append(("merges", f"{merges} ({self.n_labels} labels in tiles, joined across seams)"))
        if self.n_removed:
            rows.append(("left out", f"{self.n_removed} objects, by size or at the image's edge"))
        if self.n_holes is not None:
            rows.append(("holes", f"{self.n_holes} filled"))
        rows += [("by hand", line) for line in self.by_hand]
        rows.append(("time", f"{duration(self.seconds['total'])} ({steps})"))
        rows.append(("output", str(result.path) if result is not None else "not written: no tile could be segmented"))
        return rows


@dataclass(frozen=True)
class Plan:
    """What is asked for besides the job itself."""

    crew: Crew
    decision: Decision
    writing: Writing
    keep_stage: bool = False
    stage: bool = True

    def __post_init__(self) -> None:
        self.crew.check()
        self.decision.check()

    def advice(self, job: Job) -> str:
        """What an interruption left, and the command that goes on from there."""
        words = [str(job.folder), *self.decision.options(), *self.writing.options()]
        if not self.stage:
            return f"no output was replaced; try again with: {command(['merge', *words])}"
        keep = ["--keep-stage"] if self.keep_stage else []
        again = command(["resume", *words, *self.crew.options(), *keep])
        return f"{len(job.staged())} of {job.n_tiles} tiles are kept; go on with: {again}"


def run_job(job: Job, plan: Plan, *, replace_own: bool = False) -> Outcome:
    """Stage what is missing, merge, write; `replace_own`: in place of the result that this job wrote before.

    Raises
    ------
    Interrupted
        On Ctrl-C or SIGTERM; it says how to go on.
    """
    from .progress import Progress

    watch = _Watch()
    try:
        n_tiles = job.n_tiles - len(job.staged()) if plan.stage else job.n_tiles
        with Progress(enabled=not plan.writing.quiet) as bar, plan.crew.at_work(n_tiles) as client:
            watch.lap("workers" if client is not None else "")
            if plan.stage:
                # Without a client nothing is left to stage: nothing can hang.
                limit = plan.crew.tile_timeout if client is not None else None
                bar.follow(job.stage(client, heartbeat=1.0, tile_timeout=limit))
                watch.lap("tiles")
            overwrite = plan.writing.overwrite or (replace_own and job.wrote_output())
            return _finish(job, client, plan, bar, watch, overwrite)
    except KeyboardInterrupt:
        raise Interrupted(plan.advice(job)) from None


def _finish(job: Job, client: Client | None, plan: Plan, bar: Progress, watch: _Watch, overwrite: bool) -> Outcome:
    from .decisions import Decisions

    decision, writing = plan.decision, plan.writing
    verdicts = Decisions.load(job.folder)
    merged = job.merge(
        decision.rule,
        decision.min_iou,
        decision.connectivity,
        verdicts.cut,
        verdicts.join,
        client=client,
    )
    merged = job.filtered(merged, decision.filter(), client, bar.advance_to("holes"))
    watch.lap("merge")
    if not job.staged():
        watch.stop()
        return Outcome(job, None, watch.seconds)
    result = job.write(
        merged,
        client,
        overwrite=overwrite,
        keep_stage=plan.keep_stage,
        ome_zarr_version=writing.ome_zarr,
        progress=bar.advance_to("writing"),
    )
    watch.lap("writing")
    watch.stop()
    n_holes = None if merged.filled is None else merged.filled.n_holes
    return Outcome(job, result, watch.seconds, merged.n_labels, merged.n_removed, n_holes, tuple(verdicts.lines()))


class _Watch:
    """Seconds of each step."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        if step:
            self.seconds[step] = now - self._last
        self._last = now

    def stop(self) -> None:
        self.seconds["total"] = time.perf_counter() - self._began


# -------------------------------------------------------------------------------------------------------------- the end
def report(outcome: Outcome, quiet: bool = False) -> int:
    """Print the numbers of a run, and the first failures where no progress told them; returns the exit code."""
    print_rows(outcome.rows())
    failures = outcome.job.failed() if outcome.exit_code and quiet else {}
    for index, failure in list(failures.items())[:5]:
        first = failure.message.strip().partition("\n")[0]
        print(f"tile {index} failed: {failure.error}: {first}", file=sys.stderr)
    if outcome.exit_code:
        again = ["resume", str(outcome.job.folder), *(["--retry-failed"] if outcome.result is not None else [])]
        missing = len(outcome.result.missing_tiles) if outcome.result is not None else outcome.job.n_tiles
        print(f"{missing} of {outcome.job.n_tiles} tiles failed; try again with: {command(again)}", file=sys.stderr)
    return outcome.exit_code


def check_free(job: Job, writing: Writing, replace_own: bool = False) -> None:
    """Refuse to go on where the end could not be written; the job's own result may be replaced if that is asked for."""
    from .folder import restore_old, wrote

    target = Path(job.spec.output)
    restore_old(target)
    if target.exists() and not (writing.overwrite or replace_own or wrote(job.folder, target)):
        raise FileExistsError(f"the output {target} exists already; --overwrite replaces it when the run is done")
