"""The command line: ``napari-blockbuster segment | resume | attach | merge | measure | export | info | models | demo | …``.

Exit codes: 0 done; 1 done, but tiles failed (``info --check``: staged tiles are damaged); 2 a problem that the user can
solve, described in one line; 70 an unexpected error, with a log file that has the traceback; 130 stopped by Ctrl-C; 143
stopped by SIGTERM.

The engine is imported inside the commands, so that ``--help`` is fast.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from napari_blockbuster import __version__
from napari_blockbuster.cli.demo.command import demo
from napari_blockbuster.cli.info.command import info, models
from napari_blockbuster.cli.tools.conversion import convert
from napari_blockbuster.cli.tools.measurement import measure
from napari_blockbuster.cli.tools.relation import relate
from napari_blockbuster.cli.tools.tiff_export import export
from napari_blockbuster.cli.tools.tissue import tissue
from napari_blockbuster.machine.signals import STOPPED, TERMINATED, stopping_cleanly

from .attach import detach as start_driver
from .attach import follow
from .notices import plain_warnings
from .options import (
    Channels,
    ImageOptions,
    MergeOptions,
    ModelOptions,
    Output,
    OutputOptions,
    UsageError,
    WhereOptions,
    one_or_all,
)
from .run import Interrupted, RunOptions, check_free, report, run_job
from .terminal import DONE, MISTAKE, flush_output, leave_pipe, take_any_text
from .unexpected import UNEXPECTED, describe, is_expected
from .workers import EarlyCluster, WorkerOptions

if TYPE_CHECKING:
    from napari_blockbuster.job.job import Job

__all__ = ["app", "main"]

app = App(
    name="napari-blockbuster",
    help="Segment images larger than memory, tile by tile, with one consistent set of labels.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=""),
    # `main` reports interruptions, with the command that resumes.
    suppress_keyboard_interrupt=False,
)
app["--help"].group = app["--version"].group = "Other"

Voxels = Annotated[tuple[int, ...] | None, Parameter(consume_multiple=True)]
MODEL, IMAGE, WHERE, MERGE = ModelOptions(), ImageOptions(), WhereOptions(), MergeOptions()
OUTPUT, RUN = OutputOptions(), RunOptions()


# ------------------------------------------------------------------------------------------------------------ commands
@app.command
def segment(
    image: str,
    /,
    *more: str,
    model: ModelOptions = MODEL,
    output: Output = None,
    tile: Voxels = None,
    halo: Voxels = None,
    part: ImageOptions = IMAGE,
    region: WhereOptions = WHERE,
    run: RunOptions = RUN,
    measure: Channels = None,
    name: str | None = None,
    table: Path | None = None,
) -> int:
    """Segment an image, or many. If interrupted, run the same command again to resume.

    Many images are a folder, a pattern in quotes ('folder/*.tif'), an OME-Zarr plate, several paths, or --scene all. The
    exit code is the largest of theirs.

    Parameters
    ----------
    image
        OME-Zarr, zarr, TIFF or another format: a path or URL. A folder, pattern or plate: each image in it.
    more
        More images.
    output
        OME-Zarr of the labels. Default: IMAGE.labels.ome.zarr next to the image. For many images: a folder; default: next
        to each image, or labels/NAME inside each field of a plate.
    tile
        Tile in voxels, one number or one per spatial axis (Z Y X). Default: chosen from chunks, memory and model.
    halo
        Margin around each tile in voxels, at least the size of the largest object. Default: the model's suggestion.
    measure
        Channels whose intensities the table of objects has, in addition to those that the model sees.
    name
        For many images: name of the labels in the fields of a plate. Default: segmentation.
    table
        For many images: CSV file with a row for each. Default: segmentation.csv in the output folder.
    """
    run.check()
    from napari_blockbuster.cli.info.jobs import described_where

    from .batch import BatchOptions, collection_of, run_batch

    found = collection_of((image, *more), part)
    if found is not None:
        sizes = {"tile_shape": one_or_all(tile), "halo": one_or_all(halo), "measure": measure, **region.arguments()}
        return run_batch(found, model, part, run, BatchOptions(output, name or "segmentation", table), **sizes)
    if name is not None or table is not None:
        raise UsageError(f"--name and --table are for many images, and {image} is one")
    with EarlyCluster(run.workers) as early:
        from napari_blockbuster.job.job import Job

        job = Job.create(
            image,
            model.make(),
            output,
            tile_shape=one_or_all(tile),
            halo=one_or_all(halo),
            measure=measure,
            overwrite=run.output.overwrite,
            **part.arguments(),
            **region.arguments(),
            planned=early.begin,
        )
        if job.where and not run.output.quiet:
            print(f"{job.n_chosen:,} of {job.n_tiles:,} tiles to segment: {described_where(job)}", file=sys.stderr)
        return _start(job, run, early=early)


@app.command
def resume(
    job: Path,
    /,
    *,
    retry_failed: bool = False,
    run: RunOptions = RUN,
) -> int:
    """Resume an interrupted run. Failed tiles are tried again.

    Parameters
    ----------
    job
        Job folder, or the output next to it.
    retry_failed
        Complete a result that was written with failed tiles. It is replaced if this job wrote it.
    """
    run.check()
    from napari_blockbuster.job.job import Job

    opened = Job.open(job)
    if opened.is_complete() and not run.output.overwrite:
        print(f"Nothing to resume: the result is complete, {opened.spec.output}")
        return DONE
    if not opened.files.has_stage():
        raise UsageError(f"The tiles of {opened.folder} were deleted after its result was written. Segment again")
    check_free(opened, run.output, opened.wrote_output() and retry_failed)
    return _start(opened, run, replace_own=retry_failed)


@app.command
def attach(
    job: Path, /, *, stop: bool = False, quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False
) -> int:
    """Follow a detached run until it finishes. Ctrl-C stops following; the run continues.

    Prints the summary and returns the exit code of the run, or 130 if the run was stopped.

    Parameters
    ----------
    job
        Job folder, or the output next to it, from any machine that can access it.
    stop
        Stop the run after the tiles in progress, and wait for that.
    quiet
        Show no progress.
    """
    from napari_blockbuster.job.job import Job

    return follow(Job.open(job), stop, quiet)


@app.command
def merge(
    job: Path,
    /,
    *,
    merging: MergeOptions = MERGE,
    output: Output = None,
    discard_stage: bool = False,
    writing: OutputOptions = OUTPUT,
) -> int:
    """Merge staged tiles again with another rule. The model does not run.

    Parameters
    ----------
    job
        Job folder, or the output next to it. Its tiles must have been kept (--keep-stage).
    output
        Another path for these labels. Default: the output of the job.
    discard_stage
        Delete the tiles when the result is complete and in place.
    """
    from napari_blockbuster.job.job import Job

    opened = Job.open(job)
    # For all but the largest jobs, relabeling is faster than starting processes.
    workers = WorkerOptions(workers=None if opened.n_tiles > 500 else 0)
    run = RunOptions(workers, merging, keep_stage=not discard_stage, output=writing, stage=False)
    run.check()
    if output is not None:
        opened = opened.with_output(output, overwrite=writing.overwrite)
    check_free(opened, writing)
    return _start(opened, run)


for command in (info, models, convert, export, measure, relate, tissue, demo):
    app.command(command)


# ------------------------------------------------------------------------------------------------------------- helpers
def _start(job: Job, run: RunOptions, *, replace_own: bool = False, early: EarlyCluster | None = None) -> int:
    """Run a job here or leave it to a driver. Return the exit code."""
    if run.detach:
        return start_driver(job, run, replace_own=replace_own)
    return report(job, run_job(job, run, replace_own=replace_own, early=early).summary(), run.output.quiet)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: the arguments of this process.
    """
    take_any_text()
    # tifffile logs errors that it also raises. One line is enough.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    code = DONE
    with stopping_cleanly() as terminated, plain_warnings():
        try:
            code = int(app(words, exit_on_error=False, print_error=False, result_action="return_value") or DONE)
        except KeyboardInterrupt as stop:
            code = TERMINATED if terminated else STOPPED
            print(f"{stop.what}. {stop.advice}" if isinstance(stop, Interrupted) else "Stopped", file=sys.stderr)
        except BrokenPipeError:
            # `napari-blockbuster info … | head` is not an error.
            leave_pipe()
            code = MISTAKE
        except Exception as error:
            if debug:
                raise
            code = MISTAKE if is_expected(error) else UNEXPECTED
            print(describe(error, words), file=sys.stderr)
        flush_output()
    return code


if __name__ == "__main__":
    sys.exit(main())
