"""Run a job from a terminal: workers, progress, report, and the command that resumes an interrupted run."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from napari_blockbuster.job.shell import command, options

from .options import MergeOptions, OutputOptions
from .terminal import print_rows
from .workers import EarlyCluster, WorkerOptions

if TYPE_CHECKING:
    from napari_blockbuster.job.job import Job
    from napari_blockbuster.job.progress.summary import Summary
    from napari_blockbuster.job.steps.completion import Finish, Outcome

__all__ = ["Interrupted", "RunOptions", "check_free", "report", "run_job"]


class Interrupted(KeyboardInterrupt):
    """The user or the system stopped the run. Finished tiles are on disk.

    Attributes
    ----------
    advice : str
        What is done, and the command that resumes.
    what : str
        What happened to the run.
    """

    def __init__(self, advice: str, what: str = "Stopped") -> None:
        super().__init__(advice, what)
        self.advice, self.what = advice, what


@Parameter(name="*")
@dataclass(frozen=True)
class RunOptions:
    """Options of a run besides the job itself.

    Attributes
    ----------
    keep_stage
        Keep the tiles after the run, to merge again with another rule.
    detach
        With --scheduler: leave the run to a driver process next to the workers, and return. `attach` follows it.
    stage
        False to merge and write only. Not an option of the command line.
    """

    workers: WorkerOptions = WorkerOptions()
    merging: MergeOptions = MergeOptions()
    keep_stage: bool = False
    detach: bool = False
    output: OutputOptions = OutputOptions()
    stage: Annotated[bool, Parameter(parse=False)] = True

    def check(self) -> None:
        """Raise an error if options contradict each other."""
        self.workers.check(self.detach)
        self.merging.check()

    def finish(self, replaces: Job | None = None) -> Finish:
        """Return the settings for merge and write.

        Parameters
        ----------
        replaces : Job, optional
            Job whose own result may be replaced.
        """
        overwrite = self.output.overwrite or (replaces is not None and replaces.wrote_output())
        version = self.output.ome_zarr
        more = {"keep_stage": self.keep_stage, "csv": self.output.csv}
        return self.merging.finish(overwrite=overwrite, ome_zarr_version=version, **more)

    def advice(self, job: Job) -> str:
        """Return what is done after an interruption, and the command that resumes."""
        quiet = options(quiet=self.output.quiet)
        if not self.stage:
            asked = replace(self.finish(), keep_stage=False)
            again = command(["merge", str(job.folder), *asked.options(), *quiet])
            return f"No output was replaced. To try again: {again}"
        again = command(["resume", str(job.folder), *self.finish().options(), *quiet, *self.workers.options()])
        return f"{job.tiles.among_chosen(job.staged())} of {job.n_chosen} tiles are done. To resume: {again}"


def run_job(job: Job, asked: RunOptions, *, replace_own: bool = False, early: EarlyCluster | None = None) -> Outcome:
    """Stage the missing tiles, merge and write.

    Parameters
    ----------
    job : Job
    asked : RunOptions
    replace_own : bool, default False
        Replace the result that this job wrote before.
    early : EarlyCluster, optional
        A cluster that may be starting already.

    Raises
    ------
    Interrupted
        On Ctrl-C or SIGTERM, with the command that resumes.
    UsageError
        If options contradict each other.
    """
    from napari_blockbuster.job.progress.bar import Progress
    from napari_blockbuster.job.steps.completion import Watch, finish

    watch = Watch()
    ending = asked.finish(job if replace_own else None).begun(job)
    try:
        n_tiles = len(job.tiles.missing(job.staged())) if asked.stage else job.n_chosen
        if asked.stage and n_tiles:
            job.check_ready()
        with Progress(enabled=not asked.output.quiet) as bar, asked.workers.connect(n_tiles, early) as client:
            watch.lap("workers" if client is not None else "")
            if asked.stage:
                # Without a client no tile can exceed the limit: either none is left, or there is no limit.
                limit = asked.workers.tile_timeout if client is not None else None
                bar.follow(job.stage(client, heartbeat=1.0, tile_timeout=limit))
                watch.lap("tiles")
            return finish(job, ending, client, bar.advance_to, watch)
    except KeyboardInterrupt:
        raise Interrupted(asked.advice(job)) from None


def report(job: Job, summary: Summary, quiet: bool = False) -> int:
    """Print the summary of a run and return its exit code. `quiet` runs also list the first failed tiles here."""
    print_rows(summary.rows)
    failures = job.failed() if summary.exit_code and quiet else {}
    for index, failure in list(failures.items())[:5]:
        first = failure.message.strip().partition("\n")[0]
        print(f"tile {index} failed: {failure.error}: {first}", file=sys.stderr)
    if summary.exit_code:
        again = command(["resume", str(job.folder), *options(retry_failed=summary.written)])
        print(f"{summary.n_missing} of {summary.n_tiles} tiles failed. To try them again: {again}", file=sys.stderr)
    return summary.exit_code


def check_free(job: Job, output: OutputOptions, replace_own: bool = False) -> None:
    """Raise an error if the output exists and may not be replaced. `replace_own` allows the job's own result."""
    from napari_blockbuster.job.folder.results import restore_output, wrote

    target = Path(job.spec.output)
    restore_output(target)
    if target.exists() and not (output.overwrite or replace_own or wrote(job.folder, target)):
        raise FileExistsError(f"Output exists already: {target}. Use --overwrite to replace it when the run is done")
