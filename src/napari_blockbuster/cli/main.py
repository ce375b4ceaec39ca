"""The command line: ``napari-blockbuster segment | resume | attach | merge | info | models | demo``.

Exit codes: 0 done; 1 done, but tiles failed (or are damaged, for ``info --check``); 2 a problem that the user can solve,
described in one line; 70 an unexpected error, with a log file that has the traceback; 130 stopped by Ctrl-C; 143 stopped
by SIGTERM.

The engine is imported inside the commands, so that ``--help`` costs nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from napari_blockbuster import __version__
from napari_blockbuster.job.shell import flush_output, leave_pipe, take_any_text
from napari_blockbuster.machine.signals import STOPPED, TERMINATED, stopping_cleanly

from .attach import leave, look_in
from .console import Crew, Decision, Interrupted, Plan, UsageError, Writing, check_free, print_rows, report, run_job
from .unexpected import UNEXPECTED, describe, is_expected

if TYPE_CHECKING:
    from napari_blockbuster.models import Model

__all__ = ["app", "main"]

DONE, FAILED_TILES, MISTAKE = 0, 1, 2

app = App(
    name="napari-blockbuster",
    help="Segment images larger than memory, tile by tile, with one consistent set of labels.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=""),
    # An interruption is told here, with the command that goes on.
    suppress_keyboard_interrupt=False,
)
app["--help"].group = app["--version"].group = "Other"

Voxels = Annotated[tuple[int, ...] | None, Parameter(consume_multiple=True)]
Channels = Annotated[tuple[int | str, ...] | None, Parameter(consume_multiple=True)]
Settings = Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True, show_default=False)]
Output = Annotated[Path | None, Parameter(name=["--output", "-o"])]
CREW, DECISION, WRITING = Crew(), Decision(), Writing()


# ------------------------------------------------------------------------------------------------------------ commands
@app.command
def segment(
    image: str,
    /,
    *,
    model: str = "voronoi-otsu",
    settings: Settings = (),
    output: Output = None,
    tile: Voxels = None,
    halo: Voxels = None,
    channel: Channels = None,
    level: int = 0,
    axes: str | None = None,
    crew: Crew = CREW,
    decision: Decision = DECISION,
    keep_stage: bool = False,
    detach: bool = False,
    writing: Writing = WRITING,
) -> int:
    """Segment an image. Interrupted, the same call goes on where it was.

    Parameters
    ----------
    image
        OME-Zarr, zarr or TIFF: a path or URL.
    model
        Name of a model (`napari-blockbuster models` lists them), or file.py:function.
    settings
        Settings of the model, as diameter=18; `napari-blockbuster models NAME` lists them. For a function: its
        keyword arguments.
    output
        OME-Zarr of the labels. Default: IMAGE.labels.ome.zarr beside the image.
    tile
        Tile in voxels, one number or one per spatial axis (Z Y X). Default: chosen from chunks, memory and model.
    halo
        Context around each tile in voxels, at least the size of the largest object. Default: the model's suggestion.
    channel
        Channel by number or name, needed where the image has several; some for a model that looks at several.
    level
        Resolution level of a pyramid; 0 is the finest.
    axes
        Names of the axes where the image does not say, as tczyx.
    keep_stage
        Keep the tiles after the run, to merge again with another rule.
    detach
        With --scheduler: leave the run to a process beside the workers, and return; `attach` looks in on it.
    """
    plan = Plan(crew, decision, writing, keep_stage, detach=detach)
    from napari_blockbuster.job.job import Job

    job = Job.create(
        image,
        _make_model(model, settings),
        output,
        tile_shape=_one_or_all(tile),
        halo=_one_or_all(halo),
        channel=_one_or_all(channel),
        level=level,
        axes=axes,
        overwrite=writing.overwrite,
    )
    return leave(job, plan) if detach else report(job, run_job(job, plan).summary(), writing.quiet)


@app.command
def resume(
    job: Path,
    /,
    *,
    crew: Crew = CREW,
    decision: Decision = DECISION,
    retry_failed: bool = False,
    keep_stage: bool = False,
    detach: bool = False,
    writing: Writing = WRITING,
) -> int:
    """Go on with a run that was interrupted; tiles that failed are tried again.

    Parameters
    ----------
    job
        The job folder, or the output that it stands beside.
    retry_failed
        Complete a result that was written with failed tiles: it is replaced, if it is the one that this job wrote.
    keep_stage
        Keep the tiles after the run, to merge again with another rule.
    detach
        With --scheduler: leave the run to a process beside the workers, and return; `attach` looks in on it.
    """
    plan = Plan(crew, decision, writing, keep_stage, detach=detach)
    from napari_blockbuster.job.job import Job

    opened = Job.open(job)
    if opened.is_complete() and not writing.overwrite:
        print(f"nothing to resume: the result is complete, {opened.spec.output}")
        return DONE
    if not opened.files.has_stage():
        raise UsageError(f"the tiles of {opened.folder} were deleted after its result was written; segment again")
    check_free(opened, writing, opened.wrote_output() and retry_failed)
    if detach:
        return leave(opened, plan, replace_own=retry_failed)
    return report(opened, run_job(opened, plan, replace_own=retry_failed).summary(), writing.quiet)


@app.command
def attach(
    job: Path, /, *, stop: bool = False, quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False
) -> int:
    """Look in on a run that was left with --detach, to its end; Ctrl-C looks away, and the run goes on.

    Ends with the numbers and the exit code of the run; 130 if somebody stopped it.

    Parameters
    ----------
    job
        The job folder, or the output that it stands beside; from any machine that sees it.
    stop
        Stop the run after the tiles that run now, and wait for that.
    quiet
        No progress.
    """
    from napari_blockbuster.job.job import Job

    return look_in(Job.open(job), stop, quiet)


@app.command
def merge(
    job: Path,
    /,
    *,
    decision: Decision = DECISION,
    output: Output = None,
    discard_stage: bool = False,
    writing: Writing = WRITING,
) -> int:
    """Merge staged tiles again with another rule. The model does not run.

    Parameters
    ----------
    job
        The job folder, or the output that it stands beside; its tiles must have been kept (--keep-stage).
    output
        Another place for these labels. Default: the output of the job.
    discard_stage
        Delete the tiles when the result is complete and in place.
    """
    from napari_blockbuster.job.job import Job

    opened = Job.open(job)
    # Relabelling is quick: starting processes would take longer than it does for all but the largest jobs.
    crew = Crew(workers=None if opened.n_tiles > 500 else 0)
    plan = Plan(crew, decision, writing, keep_stage=not discard_stage, stage=False)
    if output is not None:
        opened = opened.with_output(output, overwrite=writing.overwrite)
    check_free(opened, writing)
    return report(opened, run_job(opened, plan).summary(), writing.quiet)


@app.command
def info(
    path: str,
    /,
    *,
    model: str = "voronoi-otsu",
    settings: Settings = (),
    channel: Channels = None,
    level: int = 0,
    axes: str | None = None,
    json_: Annotated[bool, Parameter(name="--json")] = False,
    check: bool = False,
    repair: bool = False,
) -> int:
    """Tell what is known of a job (settings, tiles, disk, merge) or of an image (axes, chunks, suggested tile).

    With --check the exit code is 1 if a staged tile is damaged.

    Parameters
    ----------
    path
        A job folder, an output that stands beside one, or an image.
    model
        For an image: the model that tile and halo are suggested for.
    settings
        For an image: settings of that model, as diameter=18.
    channel
        For an image: the channel that would be segmented.
    level
        For an image: the resolution level that would be segmented.
    axes
        For an image: names of the axes where it does not say, as tczyx.
    json_
        Print JSON.
    check
        For a job: prove that every staged tile has its labels, bands, objects and count.
    repair
        With --check: un-stage the tiles that have not, so that resume makes them again.
    """
    from .info import describe_check, describe_image, describe_job, find_job

    folder = find_job(path)
    sound = True
    if repair and not check:
        raise UsageError("--repair goes with --check")
    if check:
        if folder is None:
            raise UsageError(f"--check takes a job folder; {path} is none")
        rows, sound = describe_check(folder, repair)
    elif folder is not None:
        rows = describe_job(folder)
    else:
        rows = describe_image(path, _make_model(model, settings), channel=_one_or_all(channel), level=level, axes=axes)
    if json_:
        print(json.dumps(dict(rows), indent=2))
    else:
        print_rows(rows)
    return DONE if sound else FAILED_TILES


@app.command
def models(name: str | None = None, /) -> int:
    """List the models, or the settings of one.

    Parameters
    ----------
    name
        Name of a model.
    """
    from .info import describe_model, describe_models

    if name is None:
        print_rows(describe_models())
        return DONE
    heading, rows = describe_model(name)
    print_rows(rows, heading)
    return DONE


@app.command
def demo(output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("demo-output"), *, workers: int = 2) -> int:
    """Segment a small real image of nuclei in 3D, and draw the result.

    Parameters
    ----------
    output
        Folder for image, labels and picture; what an earlier demo left in it is replaced.
    workers
        Processes on this machine.
    """
    from .demo import run_demo

    return run_demo(output.absolute(), workers)


# --------------------------------------------------------------------------------------------------------------- parts
def _one_or_all(values: tuple[Any, ...] | None) -> Any:
    return values[0] if values is not None and len(values) == 1 else values


def _make_model(name: str, settings: Sequence[str]) -> Model:
    from napari_blockbuster.models import as_model, get_model

    given = dict(_setting(text) for text in settings)
    if given and (":" in name or name.endswith(".py")):
        from napari_blockbuster.models.function.model import FunctionModel

        return FunctionModel.from_source(name, **given)
    return get_model(name, **given) if given else as_model(name)


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--set takes name=value, as diameter=18; got {text!r}")
    key = key.replace("-", "_")
    with contextlib.suppress(ValueError):
        return key, json.loads(value)
    return key, value


# ---------------------------------------------------------------------------------------------------------------- main
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of this process.
    """
    take_any_text()
    # Its errors are raised as well, and an error is one line.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    code = DONE
    with stopping_cleanly() as terminated:
        try:
            code = int(app(words, exit_on_error=False, print_error=False, result_action="return_value") or DONE)
        except KeyboardInterrupt as stop:
            code = TERMINATED if terminated else STOPPED
            print(f"{stop.what}; {stop.advice}" if isinstance(stop, Interrupted) else "stopped", file=sys.stderr)
        except BrokenPipeError:
            # `napari-blockbuster info … | head` is no error.
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
