"""Jobs whose function was edited since they began.

Tiles of two versions of a function are never mixed silently. While no tile is staged, the job takes the edited function.
Later, only failed tiles may run with it, and the job records which. Anything else is refused before any work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.errors import JobMismatchError
from napari_blockbuster.machine.files import write_atomically
from napari_blockbuster.models import Model

from .acceptances import Notes
from .settings import JobSpec

if TYPE_CHECKING:
    from .job import Job

__all__ = ["check", "is_edited", "is_same_but_for_code", "read_anew", "settle", "with_code_of"]


def is_same_but_for_code(known: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Whether two models' settings name the same function with the same options, whatever its code."""
    return known.get("model") == asked.get("model") == "function" and {**known, "sha256": ""} == {**asked, "sha256": ""}


def with_code_of(spec: JobSpec, model: Model) -> JobSpec:
    """The settings of a job with the function's code as it is now; unchanged for any other model."""
    settings = model.settings()
    if not is_same_but_for_code(spec.model, settings):
        return spec
    return spec.model_copy(update={"model": settings, "prepared": settings})


def is_edited(spec: JobSpec, model: Model) -> bool:
    """Whether a model is the function of a job with other code."""
    return with_code_of(spec, model).model != spec.model


def read_anew(model: Model) -> Model:
    """Read the file of a function again; any other model is returned as it is.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is gone, is not valid Python, or no longer has the function.
    """
    from napari_blockbuster.models.function.model import FunctionModel

    return model.read_anew() if isinstance(model, FunctionModel) else model


def check(job: Job, model: Model, wanted: Iterable[int] | None = None) -> None:
    """Refuse an edited function for tiles that it must not run on.

    Parameters
    ----------
    job : Job
    model : Model
        As it is now.
    wanted : iterable of int, optional
        Tiles to run. Default: all that are not staged.

    Raises
    ------
    JobMismatchError
        With the number of tiles, and the ways to continue.
    """
    staged = job.staged()
    if not staged or not is_edited(job.spec, model):
        return
    tiles = set(job.grid.order() if wanted is None else wanted) - staged
    untried = tiles - job.failed().keys()
    if untried:
        raise JobMismatchError(
            f"The function {job.spec.model['source']!r} was edited after {len(staged)} of {job.n_tiles} tiles were "
            f"segmented with it, and {len(untried)} of the tiles to run were never tried. Tiles of two versions are "
            "not mixed: restore the file, or run only the failed tiles, or segment everything again into another "
            "output, or with overwrite=True (--overwrite) to discard the finished tiles."
        )


def settle(job: Job, model: Model, wanted: Sequence[int]) -> None:
    """Record which function runs on tiles that are about to be staged. Call it with the lock.

    Written before the tiles are: a run that is killed never leaves a tile of an edited function without a record.

    Raises
    ------
    JobMismatchError
        See `check`.
    """
    check(job, model, wanted)
    edited = is_edited(job.spec, model)
    notes = Notes.load(job.folder)
    changed = notes.drop(wanted)
    if edited and job.staged():
        notes.tiles |= dict.fromkeys(wanted, model.settings())
        changed = bool(wanted) or changed
    elif edited:
        _take_over(job, model)
    if changed:
        with writing_to(job.folder):
            notes.save(job.folder)


def _take_over(job: Job, model: Model) -> None:
    # Read from disk: a merge into another place may have redirected the job in memory.
    stored = with_code_of(JobSpec.load(job.folder / "job.json"), model)
    with writing_to(job.folder):
        write_atomically(job.folder / "job.json", stored.to_json())
    job.spec = with_code_of(job.spec, model)
