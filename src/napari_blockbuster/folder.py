"""The job folder: making it so that a crash at any moment leaves either nothing, or a job that goes on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from .driver_files import DRIVER_FILES, DriverFiles
from .files import discard, write_atomically
from .images import ImageSource, open_image, source_from_description
from .lock import holding
from .models import Model, model_from_settings
from .output import job_folder
from .spec import JobError, JobMismatchError, JobSpec, describe_versions
from .stage import StageStore
from .tiling import TileGrid
from .trouble import writing_to

__all__ = [
    "PLACING",
    "RESULT",
    "at_home",
    "check_stage",
    "check_unchanged",
    "known_job",
    "make",
    "mark_placing",
    "reopen_source",
    "restore_old",
    "result_token",
    "sweep",
    "with_function",
    "wrote",
]

RESULT = "result.json"
"""What the last result was made of, and its mark."""
PLACING = "placing.json"
"""Named result that is being put in place: it exists from before the rename until the job's books are closed."""


def known_job(folder: Path, spec: JobSpec, overwrite: bool) -> JobSpec | None:
    """The settings of the job in a folder if it is the same run; None if there is none (any more).

    Raises
    ------
    JobError
        If the folder holds something else, or another run and `overwrite` is false.
    """
    if not (folder / "job.json").exists():
        if folder.exists() and not all(_is_leftover(path) for path in folder.iterdir()):
            raise JobError(f"{folder} exists and is not a job folder; move it away or choose another output")
        return None
    known = JobSpec.load(folder / "job.json")
    differences = known.differences(spec)
    if not differences and (folder / "stage" / "labels").exists():
        # Its layout is completed where the process that made it was killed half-way.
        lay_out(folder, known.grid.grid())
        return known
    if differences and not overwrite:
        listing = "\n  ".join(differences)
        raise JobMismatchError(
            f"{folder} holds tiles of a different run:\n  {listing}\n"
            "Choose another output to keep both, or overwrite=True (--overwrite) to discard those tiles"
        )
    # A detached driver holds a lock of its own also between two steps.
    with holding(folder / "lock.json", "replace"), holding(DriverFiles(folder).lock, "replace"):
        # The settings go first: tiles without settings are no job, settings with half the tiles would be one.
        (folder / "job.json").unlink()
        discard(folder / "stage")
        (folder / "decisions.json").unlink(missing_ok=True)
        DriverFiles(folder).forget()
    return None


def _is_leftover(path: Path) -> bool:
    """Whether a crash while a job was made or replaced can have left this file."""
    if path.name == "stage":
        return (path / "tiles").is_dir() or not any(path.iterdir())
    if path.name in ("lock.json", "decisions.json", "result.json", *DRIVER_FILES):
        return True
    return path.name.startswith(".") and path.name.endswith((".tmp", ".deleted"))


def make(folder: Path, spec: JobSpec) -> None:
    """Write a new job: the stage first, then the settings that make it a job."""
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with holding(folder / "lock.json", "create"):
        discard(folder / "stage")
        sweep(folder)
        lay_out(folder, spec.grid.grid())
        with writing_to(folder):
            write_atomically(folder / "job.json", spec.model_dump_json(indent=2).encode())


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
    now = spec.model_copy(update={"identity": source.identity(), "versions": describe_versions()})
    if changed := spec.differences(now):
        listing = "\n  ".join(changed)
        raise JobMismatchError(
            f"the job's tiles were made from something else than what is there now:\n  {listing}\n"
            "Bring that back, or segment into another output, or with overwrite=True (--overwrite) to discard them"
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
        return asked


# -------------------------------------------------------------------------------------------------------- its results
def mark_placing(folder: Path, token: str) -> None:
    """Note which result is about to get its name, so that a run killed right after it knows its own work again."""
    write_atomically(folder / PLACING, json.dumps({"result": token}).encode())


def wrote(folder: Path, target: Path, note: str = PLACING) -> bool:
    """Whether the labels at `target` are what this job says in `note` that it wrote (or is putting in place)."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        token = json.loads((folder / note).read_bytes())["result"]
        return bool(token) and token == _token_of(target)
    return False


def result_token(folder: Path) -> str:
    """The mark of the last result; empty if there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((folder / RESULT).read_bytes())["result"])
    return ""


def missing_in_result(folder: Path) -> list[int]:
    """Tiles that hold background in the last result."""
    try:
        tiles: list[int] = json.loads((folder / RESULT).read_bytes())["tiles"]["missing"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return tiles


def _token_of(target: Path) -> str | None:
    for name in ("zarr.json", ".zattrs"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads((target / name).read_bytes())
            return str(said.get("attributes", said)["napari-blockbuster"]["result"])
    return None


def restore_old(target: Path) -> None:
    """Put back what a run that replaced it had just moved aside when it was killed."""
    old = target.with_name(f".{target.name}.old")
    if (old.exists() or old.is_symlink()) and not (target.exists() or target.is_symlink()):
        os.rename(old, target)
