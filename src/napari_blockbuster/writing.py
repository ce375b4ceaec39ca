"""Writing the result: beside its place first, and then, in one step, in its place."""

from __future__ import annotations

import glob
import json
import os
import shutil
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import folder as folders
from .again import tiles_again
from .execution import TileQueue, run
from .files import write_atomically
from .merge import Merge
from .ome_zarr import LabelsWriter, put_in_place
from .output import Result
from .repair import damage_named
from .spec import JobError
from .trouble import StoreError, writing_to
from .work import WriteBlockWork, WriteTileWork

if TYPE_CHECKING:
    from distributed import Client

    from .job import Job

__all__ = ["write_output"]


def write_output(
    job: Job,
    merged: Merge,
    client: Client | None,
    overwrite: bool,
    version: str | None,
    progress: Callable[[int, int], None] | None,
) -> Result:
    """Write merged labels beside their place, then put them there. Called by `Job.write`, which holds the lock."""
    target = Path(job.spec.output)
    if target.exists() and not (overwrite or folders.wrote(job.folder, target)):
        raise FileExistsError(f"the output {target} exists; pass overwrite=True (--overwrite) to replace it")
    counts = job.labels_table().counts
    if not np.array_equal(merged.labels_table.counts, counts):
        raise JobError("tiles were staged since this merge was made; call merge() again before write()")
    _clear_parts(target)
    folders.sweep(job.folder)
    token = uuid.uuid4().hex
    # A name of its own: workers keep arrays open by their path, also those of a part that is gone.
    temporary = target.with_name(f".{target.name}.{token[:8]}.part")
    provenance = {"result": token, **_provenance(job, merged)}
    try:
        with writing_to(target.parent), damage_named(job.folder):
            temporary.parent.mkdir(parents=True, exist_ok=True)
            writer = _make_writer(temporary, target, job, merged, version or _version_around(target))
            _write_all(job, merged, writer, client, _tiles_with_objects(counts, merged), progress)
            writer.finish({"napari-blockbuster": provenance})
            _put_in_place(job, temporary, target, provenance)
    except BaseException as error:
        # What is half written is of no use, and on a full disk it is in the way.
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, StoreError):
            raise error.keeping(f"all {len(job.staged())} staged tiles are kept") from error
        raise
    failed = {i: failure.message for i, failure in job.failed().items()}
    missing = sorted(set(range(job.n_tiles)) - job.staged())
    return Result(target, merged.n_objects, failed, missing, merged.seams, merged.joined, provenance)


def _put_in_place(job: Job, temporary: Path, target: Path, provenance: dict[str, Any]) -> None:
    """Give the labels their name, and close the books of the job.

    A run that is killed between the two finds its own result there, and may replace it without being told to.
    """
    folders.mark_placing(job.folder, provenance["result"])
    put_in_place(temporary, target, overwrite=True)
    write_atomically(job.folder / folders.RESULT, json.dumps(provenance, indent=2).encode())
    (job.folder / folders.PLACING).unlink()


def _clear_parts(target: Path) -> None:
    """Delete what interrupted writes left: nothing says which of its blocks are complete."""
    if target.parent.is_dir():
        for part in target.parent.glob(f".{glob.escape(target.name)}.????????.part"):
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
        source_image=os.path.relpath(path, target) if path and os.path.isabs(path) else None,
    )


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

    def advance(results: Any) -> None:
        nonlocal done
        for _ in results:
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
            "segmented_again": {str(i): settings for i, settings in tiles_again(job.folder).items() if i in staged},
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
