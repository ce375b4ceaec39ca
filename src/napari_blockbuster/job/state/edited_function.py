"""Jobs whose function was edited since they began.

Tiles of two versions of a function are never mixed silently. While no tile is staged, the job takes the edited function.
Later, only failed tiles may run with it, and the job records which. Anything else is refused before any work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from napari_blockbuster.job.folder.acceptances import Notes
from napari_blockbuster.job.folder.job_folder import JobFolder
from napari_blockbuster.job.folder.settings import JobSpec
from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.errors import JobMismatchError
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.models import Model

if TYPE_CHECKING:
    from .tiles import Tiles

__all__ = ["check", "is_edited", "read_anew", "settle", "with_code_of"]


def with_code_of(spec: JobSpec, model: Model) -> JobSpec:
    """Return the settings of a job with the function's code as it is now; unchanged for any other model."""
    settings = model.settings()
    if not spec.is_same_but_for_code(settings):
        return spec
    return spec.model_copy(update={"model": settings, "prepared": settings})


def is_edited(spec: JobSpec, model: Model) -> bool:
    """Whether a model is the function of a job with other code."""
    return with_code_of(spec, model).model != spec.model


def read_anew(model: Model) -> Model:
    """Read the file of a function again; return any other model as it is.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is gone, is not valid Python, or no longer has the function.
    """
    from napari_blockbuster.models.function.model import FunctionModel

    return model.read_anew() if isinstance(model, FunctionModel) else model


def check(spec: JobSpec, tiles: Tiles, model: Model, wanted: Iterable[int] | None = None) -> None:
    """Refuse an edited function for tiles that it must not run on.

    Parameters
    ----------
    spec : JobSpec
    tiles : Tiles
    model : Model
        As it is now.
    wanted : iterable of int, optional
        Tiles to run. Default: all that are not staged.

    Raises
    ------
    JobMismatchError
        With the number of tiles, and the ways to continue.
    """
    staged = tiles.staged()
    if not staged or not is_edited(spec, model):
        return
    untried = set(tiles.order() if wanted is None else wanted) - staged - tiles.failed().keys()
    if untried:
        raise JobMismatchError(
            f"The function {spec.model['source']!r} was edited after {len(staged)} of {len(tiles)} tiles were "
            f"segmented with it, and {len(untried)} of the tiles to run were never tried. Tiles of two versions are "
            "not mixed: restore the file, or run only the failed tiles, or segment everything again into another "
            "output, or with overwrite=True (--overwrite) to discard the finished tiles."
        )


def settle(
    folder: JobFolder, spec: JobSpec, tiles: Tiles, model: Model, wanted: Sequence[int], owner: Owner
) -> JobSpec:
    """Record which function runs on tiles that are about to be staged.

    The record is written before the tiles: a killed run never leaves a tile of an edited function without a record.

    Returns
    -------
    JobSpec
        The settings, with the code of an edited function that the job takes.

    Raises
    ------
    JobMismatchError
        See `check`.
    """
    check(spec, tiles, model, wanted)
    edited = is_edited(spec, model)
    notes = Notes.load(folder.path)
    changed = notes.drop(wanted)
    if edited and tiles.staged():
        notes.tiles |= dict.fromkeys(wanted, model.settings())
        changed = bool(wanted) or changed
    elif edited:
        # The job in memory may write to another output than the one that is stored.
        folder.save(with_code_of(folder.load_stored(), model), owner)
        spec = with_code_of(spec, model)
    if changed:
        with writing_to(folder.path):
            notes.save(folder.path, owner)
    return spec
