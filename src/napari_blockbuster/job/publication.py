"""Writing the result: beside its place first, and then, in one step, in its place."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import uuid
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.machine.disk import StoreError, writing_to
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.files import beside
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.output.occupant import Occupant
from napari_blockbuster.output.result import Result
from napari_blockbuster.output.work import WriteBlockWork, WriteTileWork
from napari_blockbuster.output.writer import LabelsWriter, put_in_place

from . import folder as folders
from . import results
from .acceptances import tiles_again

if TYPE_CHECKING:
    from distributed import Client

    from .job import Job

__all__ = ["NothingStagedError", "check_any_staged", "write_output"]


class NothingStagedError(JobError):
    """There is no tile to make a result of; the message says why."""


def check_any_staged(job: Job) -> None:
    """Refuse to make a result of nothing: an empty label image looks like an image without objects.

    Raises
    ------
    NothingStagedError
        With the first failure, if tiles failed. Tiles and failures are kept.
    """
    folders.check_stage(job.folder)
    if job.staged():
        return
    failed = job.failed()
    if not failed:
        raise NothingStagedError(
            f"no tile of {job.folder} is staged yet, so no result was written. Segment the tiles first"
        )
    index, failure = next(iter(failed.items()))
    reason = (failure.message.strip().splitlines() or [""])[0]
    count = f"all {job.n_tiles} tiles" if len(failed) == job.n_tiles else f"no tile is staged, {len(failed)} tiles"
    raise NothingStagedError(
        f"{count} failed, so no result was written (tile {index}: {failure.error}: {reason}). "
        f"The reasons are kept in {job.folder}. Fix the problem and resume"
    )


def write_output(
    job: Job,
    merged: Merge,
    client: Client | None,
    overwrite: bool | Occupant,
    version: str | None,
    progress: Callable[[int, int], None] | None,
) -> Result:
    """Write merged labels beside their place, then put them there. Called by `Job.write`, which holds the lock."""
    target = Path(job.spec.output)
    folders.restore_old(target)
    replaced = _replaced(job, target, overwrite)
    check_any_staged(job)
    counts = job.labels_table().counts
    if not np.array_equal(merged.labels_table.counts, counts):
        raise JobError("tiles were staged since this merge was made; call merge() again before write()")
    _clear_parts(target)
    folders.sweep(job.folder)
    token = uuid.uuid4().hex
    # A name of its own: workers keep arrays open by their path, also those of a part that is gone.
    temporary = beside(target, f".{token[:8]}.part")
    provenance = {"result": token, **_provenance(job, merged)}
    try:
        writer = _make_writer(temporary, target, job, merged, version or _version_around(target))
        _write_all(job, merged, writer, client, _tiles_with_objects(counts, merged), progress)
        writer.finish({"napari-blockbuster": provenance})
        _put_in_place(job, temporary, target, provenance, replaced)
    except BaseException as error:
        # What is half written is of no use, and on a full disk it is in the way.
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, StoreError):
            raise error.keeping(f"all {len(job.staged())} staged tiles are kept") from error
        raise
    failed = {i: failure.message for i, failure in job.failed().items()}
    missing = sorted(set(range(job.n_tiles)) - job.staged())
    return Result(target, merged.n_objects, failed, missing, merged.seams, merged.joined, provenance)


def _replaced(job: Job, target: Path, overwrite: bool | Occupant) -> Occupant:
    """What the new result may replace: what is at its place now, if that is allowed.

    Raises
    ------
    FileExistsError
        If it is not.
    """
    there = Occupant.of(target)
    if there.is_nothing or there == overwrite or overwrite is True or results.wrote(job.folder, target):
        return there
    if overwrite is False:
        raise FileExistsError(f"the output {target} exists; pass overwrite=True (--overwrite) to replace it")
    raise _appeared(job, target)


def _put_in_place(job: Job, temporary: Path, target: Path, provenance: dict[str, Any], replaced: Occupant) -> None:
    """Give the labels their name, and write their record.

    A run that is killed between the two finds its own result there, and may replace it without being told to.
    """
    with writing_to(job.folder):
        results.mark_placing(job.folder, provenance["result"])
    try:
        with writing_to(target.parent):
            put_in_place(temporary, target, replaced)
    except StoreError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise _appeared(job, target) from error
        raise
    with writing_to(job.folder):
        results.placed(job.folder, target, provenance)


def _appeared(job: Job, target: Path) -> FileExistsError:
    return FileExistsError(
        f"something else appeared at the output {target} while this job was at work. It was left as it is, and the tiles "
        f"are kept in {job.folder}. Move it away, replace it with overwrite=True (--overwrite), or write the labels elsewhere "
        "(merge -o)"
    )


def _clear_parts(target: Path) -> None:
    """Delete what interrupted writes left: nothing says which of its blocks are complete."""
    if target.parent.is_dir():
        placeholder = "????????.part"
        start = beside(target, f".{placeholder}").name.removesuffix(placeholder)
        for part in target.parent.glob(glob.escape(start) + placeholder):
            shutil.rmtree(part, ignore_errors=True)


def _version_around(target: Path) -> str:
    """The version of the OME-Zarr image that labels lie in: readers of a zarr v2 image find no v3 arrays in it."""
    image = target.parent.parent
    inside = target.parent.name == "labels" and (image / ".zgroup").exists() and not (image / "zarr.json").exists()
    return "0.4" if inside else "0.5"


def _make_writer(temporary: Path, target: Path, job: Job, merged: Merge, version: str) -> LabelsWriter:
    image = job.spec.image
    path = image.get("path")
    return LabelsWriter.create(
        temporary,
        grid=job.grid,
        dtype=merged.new_ids.dtype,
        axes=tuple(image["axes"]),
        scale=tuple(image["scale"]),
        units=tuple(image["units"]),
        translation=tuple(image["translation"]) if image.get("translation") else None,
        name=target.name.removesuffix(".ome.zarr"),
        version=version,
        source_image=_path_from(target, path) if path and os.path.isabs(path) else None,
    )


def _path_from(target: Path, image: str) -> str | None:
    """The image's path relative to the labels; None where the metadata of the labels cannot hold it."""
    with contextlib.suppress(ValueError):
        # ValueError: on another drive of Windows, or no UTF-8.
        path = os.path.relpath(image, target)
        path.encode()
        return path
    return None


def _tiles_with_objects(counts: np.ndarray, merged: Merge) -> list[int]:
    """Tiles that hold labels, or part of a hole that is filled; the others are background, which needs no writing."""
    wanted = counts > 0
    if merged.filled is not None:
        wanted[merged.filled.tiles] = True
    found: list[int] = np.flatnonzero(wanted).tolist()
    return found


def _write_all(
    job: Job,
    merged: Merge,
    writer: LabelsWriter,
    client: Client | None,
    tiles: list[int],
    progress: Callable[[int, int], None] | None,
) -> None:
    passes = writer.passes()
    done, total = 0, len(tiles) + sum(map(len, passes))

    def advance(run_of_items: Generator[Any, None, None]) -> None:
        nonlocal done
        # Closed here, also by an error: what is in flight must end before the folder that it writes to is deleted.
        with contextlib.closing(run_of_items):
            for _ in run_of_items:
                done += 1
                if progress is not None:
                    progress(done, total)

    wanted = set(tiles)
    order = TileQueue(i for i in job.grid.order() if i in wanted)
    advance(run(WriteTileWork(job.store, writer, merged), order, client))
    for blocks in passes:
        advance(run(WriteBlockWork(writer, blocks), TileQueue(range(len(blocks))), client))


def _provenance(job: Job, merged: Merge) -> dict[str, Any]:
    staged = job.staged()
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "image": job.spec.image,
        "identity": job.spec.identity,
        "model": job.spec.model,
        "prepared": job.spec.prepared,
        "tiles": {
            **job.spec.grid.model_dump(mode="json"),
            "count": job.n_tiles,
            "staged": len(staged),
            "failed": {str(i): f"{f.error}: {f.message}" for i, f in job.failed().items()},
            "missing": sorted(set(range(job.n_tiles)) - staged),
            "segmented_again": {str(i): known for i, known in tiles_again(job.folder).items() if i in staged},
        },
        "merge": {
            "rule": merged.rule,
            "min_iou": merged.min_iou,
            "connectivity": merged.connectivity,
            "labels": merged.n_labels,
            "objects": merged.n_objects,
            "joined_pairs": int(merged.joined.sum()),
            "cut": merged.cut,
            "join": merged.join,
            "filter": merged.filter.settings(),
            "removed": merged.n_removed,
            **({"holes_filled": merged.filled.n_holes} if merged.filled is not None else {}),
        },
        "versions": job.spec.versions,
    }
