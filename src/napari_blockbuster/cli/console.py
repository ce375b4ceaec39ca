"""A job run from a terminal: its workers, its progress, the numbers at the end, and how to go on after a stop."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from napari_blockbuster.job.shell import command, options, print_rows

if TYPE_CHECKING:
    from distributed import Client

    from napari_blockbuster.job.completion import Finish, Outcome
    from napari_blockbuster.job.job import Job
    from napari_blockbuster.job.summary import Summary
    from napari_blockbuster.merge.filters import ObjectFilter

__all__ = [
    "Crew",
    "Decision",
    "Interrupted",
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
    what : str
        What came of the run.
    """

    def __init__(self, advice: str, what: str = "stopped") -> None:
        super().__init__(advice, what)
        self.advice, self.what = advice, what


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
        Address of a running dask scheduler, as tcp://host:8786, or the path of its scheduler file.
    tile_timeout
        Seconds after which a tile counts as hanging; its process is ended, and it is tried once more. Needs processes.
    """

    workers: int | None = None
    gpu: bool = False
    scheduler: str | None = None
    tile_timeout: float | None = None

    def check(self, detach: bool = False) -> None:
        """Refuse options that contradict each other."""
        if detach and self.scheduler is None:
            raise UsageError("--detach needs --scheduler: workers of this command's own end when it does")
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
            from napari_blockbuster.execution.cluster import connect, scheduler_address

            address = scheduler_address(self.scheduler)
            _knock(address)
            client = connect(address, timeout=30)
            try:
                yield client
            finally:
                client.close()
            return
        n_workers = self._processes(n_tiles)
        if n_workers == 0:
            yield None
            return
        from napari_blockbuster.execution.cluster import make_local_cluster

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
        from napari_blockbuster.machine.limits import cpu_count

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
        from napari_blockbuster.merge.filters import ObjectFilter

        return ObjectFilter(self.min_size, self.max_size, self.drop_border, self.fill_holes, self.max_hole_size)

    def check(self) -> None:
        """Refuse what no merge takes: before the first tile, not after the last."""
        if self.min_iou is not None and not 0 <= self.min_iou <= 1:
            raise UsageError(f"--min-iou is {self.min_iou}; it is a share of the common area, from 0 to 1")
        try:
            self.filter()
        except ValueError as error:
            raise UsageError(str(error)) from None

    def finish(self, **more: Any) -> Finish:
        """The same for the engine, with what else is asked for."""
        from napari_blockbuster.job.completion import Finish

        return Finish(self.rule, self.min_iou, self.connectivity, filter=self.filter(), **more)

    def options(self) -> list[str]:
        """As typed on the command line."""
        return self.finish().options()


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


@dataclass(frozen=True)
class Plan:
    """What is asked for besides the job itself."""

    crew: Crew
    decision: Decision
    writing: Writing
    keep_stage: bool = False
    stage: bool = True
    detach: bool = False

    def __post_init__(self) -> None:
        self.crew.check(self.detach)
        self.decision.check()

    def finish(self, replaces: Job | None = None) -> Finish:
        """What is asked for after the tiles; `replaces`: a job whose own result may be replaced."""
        overwrite = self.writing.overwrite or (replaces is not None and replaces.wrote_output())
        version = self.writing.ome_zarr
        return self.decision.finish(overwrite=overwrite, ome_zarr_version=version, keep_stage=self.keep_stage)

    def advice(self, job: Job) -> str:
        """What an interruption left, and the command that goes on from there."""
        quiet = options(quiet=self.writing.quiet)
        if not self.stage:
            asked = replace(self.finish(), keep_stage=False)
            return f"no output was replaced; try again with: {command(['merge', str(job.folder), *asked.options(), *quiet])}"
        again = command(["resume", str(job.folder), *self.finish().options(), *quiet, *self.crew.options()])
        return f"{len(job.staged())} of {job.n_tiles} tiles are kept; go on with: {again}"


def run_job(job: Job, plan: Plan, *, replace_own: bool = False) -> Outcome:
    """Stage what is missing, merge, write; `replace_own`: in place of the result that this job wrote before.

    Raises
    ------
    Interrupted
        On Ctrl-C or SIGTERM; it says how to go on.
    """
    from napari_blockbuster.job.completion import Watch, finish
    from napari_blockbuster.job.progress import Progress

    watch = Watch()
    asked = plan.finish(job if replace_own else None).begun(job)
    try:
        n_tiles = job.n_tiles - len(job.staged()) if plan.stage else job.n_tiles
        if plan.stage and n_tiles:
            job.check_ready()
        with Progress(enabled=not plan.writing.quiet) as bar, plan.crew.at_work(n_tiles) as client:
            watch.lap("workers" if client is not None else "")
            if plan.stage:
                # Without a client nothing is left to stage: nothing can hang.
                limit = plan.crew.tile_timeout if client is not None else None
                bar.follow(job.stage(client, heartbeat=1.0, tile_timeout=limit))
                watch.lap("tiles")
            return finish(job, asked, client, bar.advance_to, watch)
    except KeyboardInterrupt:
        raise Interrupted(plan.advice(job)) from None


# -------------------------------------------------------------------------------------------------------------- the end
def report(job: Job, summary: Summary, quiet: bool = False) -> int:
    """Print the numbers of a run, and the first failures where no progress told them; returns the exit code."""
    print_rows(summary.rows)
    failures = job.failed() if summary.exit_code and quiet else {}
    for index, failure in list(failures.items())[:5]:
        first = failure.message.strip().partition("\n")[0]
        print(f"tile {index} failed: {failure.error}: {first}", file=sys.stderr)
    if summary.exit_code:
        again = command(["resume", str(job.folder), *options(retry_failed=summary.written)])
        print(f"{summary.n_missing} of {summary.n_tiles} tiles failed; try again with: {again}", file=sys.stderr)
    return summary.exit_code


def check_free(job: Job, writing: Writing, replace_own: bool = False) -> None:
    """Refuse to go on where the end could not be written; the job's own result may be replaced if that is asked for."""
    from napari_blockbuster.job.results import wrote
    from napari_blockbuster.output.place import restore_old

    target = Path(job.spec.output)
    restore_old(target)
    if target.exists() and not (writing.overwrite or replace_own or wrote(job.folder, target)):
        raise FileExistsError(f"the output {target} exists already; --overwrite replaces it when the run is done")
