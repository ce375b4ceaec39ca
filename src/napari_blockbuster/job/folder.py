"""The job folder: making it so that a crash at any moment leaves either nothing, or a job that goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_blockbuster.detached.files import DRIVER_FILES, DriverFiles
from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import ImageSource, open_image, source_from_description
from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.errors import JobError, JobMismatchError
from napari_blockbuster.machine.files import beside, discard, write_atomically
from napari_blockbuster.machine.versions import describe_versions
from napari_blockbuster.models import Model, model_from_settings
from napari_blockbuster.output.result import job_folder
from napari_blockbuster.stage.store import StageStore

from .acceptances import AGAIN, AGAIN_FILES, NOTES
from .edited_function import is_same_but_for_code
from .lock import JobLockedError, holding
from .results import PLACING, RESULT, RESULTS, missing_in_result, result_token, wrote
from .settings import JobSpec

__all__ = [
    "at_home",
    "check_stage",
    "check_unchanged",
    "delete_files",
    "known_job",
    "lay_out",
    "make",
    "missing_in_result",
    "missing_model",
    "reopen_source",
    "restore_old",
    "result_token",
    "sweep",
    "with_function",
    "wrote",
]

JOB_FILES = ("decisions.json", NOTES, RESULT, RESULTS, PLACING)
"""What a job may have besides its settings, stages and locks."""


def known_job(folder: Path, spec: JobSpec, overwrite: bool) -> JobSpec | None:
    """The settings of the job in a folder if it is the same run; None if a new job may be made there.

    Nothing is deleted: a job that may be replaced is there until `make` replaces it.

    Raises
    ------
    JobError
        If the folder holds something else, or another run and `overwrite` is false.
    JobLockedError
        If another process works on the run that would be replaced.
    """
    known = _same_run(folder, spec, overwrite)
    if known is not None:
        # Its layout is completed where the process that made it was killed half-way.
        lay_out(folder, known.grid.grid())
    elif (folder / "job.json").exists():
        # A job in use is refused now, not after the model was prepared. `make` takes the locks again.
        with _in_use_by_nobody(folder, "replace"):
            pass
    return known


def _same_run(folder: Path, spec: JobSpec, overwrite: bool) -> JobSpec | None:
    """See `known_job`."""
    if not (folder / "job.json").exists():
        if folder.exists() and not all(_is_leftover(path) for path in folder.iterdir()):
            raise JobError(f"{folder} exists and is not a job folder; move it away or choose another output")
        return None
    known = JobSpec.load(folder / "job.json")
    differences = known.differences(spec)
    if not overwrite and is_same_but_for_code(known.model, spec.model):
        # Whether an edited function may run on the tiles that are left is checked when they are known.
        differences = known.differences(spec.model_copy(update={"model": known.model}))
    if not differences and (folder / "stage" / "labels").exists():
        return known
    if differences and not overwrite:
        listing = "\n  ".join(differences)
        raise JobMismatchError(f"{folder} holds tiles of a different run:\n  {listing}\n{known.remedy(spec)}")
    return None


@contextlib.contextmanager
def _in_use_by_nobody(folder: Path, doing: str) -> Iterator[None]:
    # A detached driver holds a lock of its own also between two steps.
    with holding(folder / "lock.json", doing), holding(DriverFiles(folder).lock, doing):
        yield


def _is_leftover(path: Path) -> bool:
    """Whether a crash while a job was made or replaced can have left this file."""
    if path.name == "stage":
        return (path / "tiles").is_dir() or not any(path.iterdir())
    if path.name == AGAIN:
        return all(child.name in AGAIN_FILES or child.name.startswith(".") for child in path.iterdir())
    if path.name in ("lock.json", *JOB_FILES, *DRIVER_FILES):
        return True
    return path.name.startswith(".") and path.name.endswith((".tmp", ".deleted"))


def make(folder: Path, spec: JobSpec, overwrite: bool) -> None:
    """Write a new job. Another job in the folder is deleted only after the new stage is complete.

    Every record of the other job goes with it: decisions, results, and tiles that were segmented again.

    Raises
    ------
    JobError
        As `known_job`: another process may have made a job meanwhile.
    """
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _in_use_by_nobody(folder, "create"):
        if _same_run(folder, spec, overwrite) is not None:
            raise JobLockedError(f"another process has just started this run in {folder}; wait for it or stop it")
        sweep(folder)
        fresh = folder / f".stage.{uuid.uuid4().hex[:8]}.tmp"
        try:
            with writing_to(folder):
                StageStore.create(fresh, spec.grid.grid())
                _delete_job(folder)
                os.rename(fresh, folder / "stage")
                write_atomically(folder / "job.json", spec.to_json())
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _delete_job(folder: Path) -> None:
    """Delete a job, except for its locks. Tiles without settings are no job, so the settings go first."""
    for name in ("job.json", "stage", AGAIN, *JOB_FILES):
        discard(folder / name)
    DriverFiles(folder).forget()


def delete_files(folder: Path) -> None:
    """Delete a job that nobody uses. Files of others in its folder are kept, and then the folder as well.

    Raises
    ------
    JobLockedError
        If another process works on it.
    """
    with _in_use_by_nobody(folder, "delete"):
        _delete_job(folder)
        sweep(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def sweep(folder: Path) -> None:
    """Delete what killed processes left half deleted or half written. Call it with the lock."""
    for leftover in (*folder.glob(".*.tmp"), *folder.glob(".*.deleted")):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def lay_out(folder: Path, grid: TileGrid) -> None:
    """Make what is missing of an empty stage."""
    with writing_to(folder):
        StageStore.create(folder / "stage", grid)


# ------------------------------------------------------------------------------------------------------------ opening
def at_home(spec: JobSpec, folder: Path) -> JobSpec:
    """The settings of a job where it lies now.

    A folder that was moved, or came from a stranger, writes beside itself: the path in it is another machine's.
    """
    if job_folder(Path(spec.output)) == folder:
        return spec
    name = folder.name.removesuffix(".job")
    beside = folder.with_name(name if name != folder.name else f"{name}.ome.zarr")
    return spec.model_copy(update={"output": str(beside)})


def check_unchanged(spec: JobSpec, source: ImageSource) -> None:
    """Refuse to go on with an image or a version that is not that of the tiles staged so far.

    Raises
    ------
    JobMismatchError
        Listing what differs.
    """
    now = spec.model_copy(update={"identity": source.identity(), "versions": describe_versions(spec.depends_on)})
    if changed := spec.differences(now):
        listing = "\n  ".join(changed)
        raise JobMismatchError(
            f"the job's tiles were made from something else than what is there now:\n  {listing}\n{spec.remedy(now)}"
        )


def check_stage(folder: Path) -> None:
    """Refuse to merge or write from a stage that was deleted.

    Raises
    ------
    JobError
        Saying how to keep it next time.
    """
    if not (folder / "stage" / "labels").exists():
        raise JobError(
            f"the staged tiles of {folder} were deleted after the result was written; "
            "run again with keep_stage=True (--keep-stage) to merge more than once"
        )


def reopen_source(spec: JobSpec, image: Any) -> ImageSource | None:
    """The image of a job, if it can be had.

    Raises
    ------
    JobMismatchError
        If `image` is another one.
    """
    if image is not None:
        options = {
            key: spec.image[key] for key in ("channel", "level", "scene", "spacing") if spec.image.get(key) is not None
        }
        source = image if isinstance(image, ImageSource) else open_image(image, **options)
        if changed := spec.differences(spec.model_copy(update={"identity": source.identity()})):
            raise JobMismatchError("this is not the image of the job: " + "; ".join(changed))
        return source
    try:
        return source_from_description(spec.image)
    except (OSError, ValueError):
        # A moved or in-memory image: the staged tiles can still be merged and written.
        return None
    except (KeyError, TypeError, AttributeError):
        raise JobError("the job's image entry cannot be read: job.json was edited or damaged") from None


def with_function(spec: JobSpec, asked: Model | None) -> Model | None:
    """The prepared model of a job, with the function that JSON cannot hold."""
    if asked is not None and asked.family == "function":
        return asked
    if spec.prepared.get("model") == "function" and not spec.prepared.get("sha256"):
        # Without a digest any function of that name would do, and finding it would import its module.
        raise JobError("the job's function has no digest: job.json was edited; nothing of it is run")
    try:
        return model_from_settings(spec.prepared)
    except (OSError, ValueError):
        if asked is not None or not _is_from_file(spec.prepared):
            return asked
    try:
        return _function_now(spec.prepared)
    except (OSError, ValueError):
        return None


def missing_model(spec: JobSpec) -> str:
    """Why the model of a job cannot be had, in a sentence."""
    if spec.prepared.get("model") == "function" and spec.prepared.get("kind") == "python":
        return "this job's model is a Python function: pass it again, Job.open(folder, model=...)"
    try:
        (_function_now if _is_from_file(spec.prepared) else model_from_settings)(spec.prepared)
    except (OSError, ValueError) as error:
        return f"The model of this job cannot be used: {error}"
    return "The model of this job could not be used when the job was opened. Open the job again."


def _is_from_file(settings: dict[str, Any]) -> bool:
    return settings.get("model") == "function" and settings.get("kind") == "file"


def _function_now(settings: dict[str, Any]) -> Model:
    """The function of a file as it is now, whether it was edited or not. Nothing in the file is run."""
    from napari_blockbuster.models.function.model import FunctionModel

    return FunctionModel(**{key: value for key, value in settings.items() if key != "model"}).read_anew()


def restore_old(target: Path) -> None:
    """Put back what a run that replaced it had just moved aside when it was killed."""
    old = beside(target, ".old")
    if (old.exists() or old.is_symlink()) and not (target.exists() or target.is_symlink()):
        os.rename(old, target)
