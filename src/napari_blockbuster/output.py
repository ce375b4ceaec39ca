"""Where the result goes: its place, its checks, writing it, and handing it back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .execution import TileQueue, run
from .images import ImageSource
from .labels import lookup
from .merge import Merge
from .ome_zarr import LabelsWriter, open_labels, put_in_place
from .spec import JobError
from .stage import StageStore, write_atomically
from .tiling import TileGrid
from .work import WriteBlockWork, WriteTileWork

if TYPE_CHECKING:
    import dask.array as da
    from distributed import Client

    from .job import Job

__all__ = ["Result", "StagedMerge", "check_output", "default_output", "job_folder", "lazy_labels", "write_output"]


@dataclass(frozen=True)
class Result:
    """Merged labels on disk.

    Attributes
    ----------
    path : Path
        The OME-Zarr of the labels.
    n_objects : int
    failed_tiles : dict of int to str
        Tiles that hold background because they could not be segmented, and why.
    missing_tiles : list of int
        Tiles that hold background because they were not staged (yet), failed ones included.
    seams : numpy.ndarray
        The evidence of all pairs at the seams (`napari_blockbuster.seams.evidence_dtype`).
    joined : numpy.ndarray of bool
        For each row of `seams`, whether the pair became one object.
    provenance : dict
        Versions, settings, counts and the merge rule; also in the attributes of the OME-Zarr.
    """

    path: Path
    n_objects: int
    failed_tiles: dict[int, str]
    missing_tiles: list[int]
    seams: np.ndarray
    joined: np.ndarray
    provenance: dict[str, Any]

    @property
    def labels(self) -> da.Array:
        """Lazy, full resolution, the image's shape (time and space)."""
        array: da.Array = open_labels(self.path)
        return array

    def __repr__(self) -> str:
        gaps = f", {len(self.missing_tiles)} tiles missing" if self.missing_tiles else ""
        return f"Result({str(self.path)!r}, n_objects={self.n_objects}{gaps})"


@dataclass(frozen=True, repr=False)
class StagedMerge(Merge):
    """A merge of a job's staged tiles: all that `Merge` says, and the merged labels before anything is written."""

    store: StageStore | None = None

    @classmethod
    def of(cls, merged: Merge, store: StageStore) -> Self:
        return cls(**{f.name: getattr(merged, f.name) for f in fields(Merge)}, store=store)

    @property
    def labels(self) -> da.Array:
        """Merged labels of the image's shape, relabelled as they are read; background where no tile is staged."""
        assert self.store is not None
        return lazy_labels(self.store, self)


def lazy_labels(store: StageStore, merged: Merge) -> da.Array:
    """Staged labels as a dask array, one chunk per tile, relabelled when a chunk is computed."""
    import dask.array as da

    name = f"merged-labels-{id(merged):x}-{os.urandom(4).hex()}"
    grid = store.grid
    graph = {(name, *grid.position(i)): (_read_merged, store, i, merged) for i in range(len(grid))}
    chunks = tuple(
        tuple(axis.core(p)[1] - axis.core(p)[0] for p in range(len(axis))) for axis in grid.axes
    )
    return da.Array(graph, name, chunks, dtype=merged.new_ids.dtype)


def _read_merged(store: StageStore, index: int, merged: Merge) -> np.ndarray:
    tile = store.grid[index]
    table = merged.table(index)
    if len(table) == 1:
        return np.zeros(tile.core.shape, table.dtype)
    return lookup(table, store.read_labels(tile).result())


# -------------------------------------------------------------------------------------------------------------- places
def default_output(source: ImageSource) -> Path:
    """``<image>.labels.ome.zarr`` beside the image.

    Raises
    ------
    ValueError
        If the image is not a file or folder of this machine.
    """
    path = source.local_path
    if path is None:
        raise ValueError("this image has no folder of its own: say where the labels go, output='labels.ome.zarr' (-o)")
    stem = path.name
    for suffix in (".ome.zarr", ".zarr", ".ome.tiff", ".ome.tif", ".tiff", ".tif"):
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
            break
    return path.with_name(f"{stem}.labels.ome.zarr")


def job_folder(output: Path) -> Path:
    """The job folder of an output: ``<output>.job``, or beside the image for labels inside an OME-Zarr image."""
    if output.parent.name == "labels" and _is_zarr_group(output.parent.parent):
        image = output.parent.parent
        return image.with_name(f"{image.name}.{output.name}.job")
    return output.with_name(f"{output.name}.job")


def _is_zarr_group(path: Path) -> bool:
    return (path / ".zgroup").exists() or (path / "zarr.json").exists()


def check_output(output: Path, source: ImageSource, overwrite: bool) -> None:
    """Refuse an output that is the input, exists, or cannot be written; before the first tile, not after the last.

    Raises
    ------
    ValueError
        If writing there would hit the image; `overwrite` does not change that.
    FileExistsError
        If it exists and `overwrite` is false.
    PermissionError, NotADirectoryError
        If the folder cannot be written.
    """
    if source.aliases(output):
        raise ValueError(f"the output {output} is the image itself, or holds or lies in its pixels; choose another output")
    if output.exists() and not overwrite:
        raise FileExistsError(
            f"the output {output} exists; choose another one, or overwrite=True (--overwrite) to replace it"
        )
    folder = job_folder(output).parent
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if not existing.is_dir():
        raise NotADirectoryError(f"the output {output} cannot be made: {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"the output {output} cannot be made: {existing} is not writable")


def check_space(folder: Path, grid: TileGrid, source: ImageSource) -> None:
    """Refuse to start where the result plainly cannot fit.

    Raises
    ------
    OSError
        Naming the space that is free and that is needed.
    """
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    # Labels compress 20 to 60 times; stage, bands and result together stay below a tenth of a byte for each pixel bit.
    needed = int(np.prod(grid.shape, dtype=np.float64) * 4 / 20 * 2)
    if free < needed:
        raise OSError(
            f"{existing} has {free / 1e9:.1f} GB free, and the tiles and labels of {source.name} need about "
            f"{needed / 1e9:.1f} GB; free some space or choose an output on another disk"
        )


# ------------------------------------------------------------------------------------------------------------- writing
def write_output(
    job: Job,
    merged: Merge,
    client: Client | None,
    overwrite: bool,
    version: str,
    progress: Callable[[int, int], None] | None,
) -> Result:
    """Write merged labels beside their final place, then put them there. Called by `Job.write`, which holds the lock."""
    target = Path(job.spec.output)
    if target.exists() and not overwrite:
        raise FileExistsError(f"the output {target} exists; pass overwrite=True (--overwrite) to replace it")
    counts = job.labels_table().counts
    if not np.array_equal(merged.labels_table.counts, counts):
        raise JobError("tiles were staged since this merge was made; call merge() again before write()")
    temporary = target.with_name(f".{target.name}.part")
    # A part that an interrupted write left behind is of no use: nothing says which of its blocks are complete.
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    writer = _make_writer(temporary, target, job, merged, version)
    _write_all(job, merged, writer, client, np.flatnonzero(counts).tolist(), progress)
    provenance = _provenance(job, merged)
    writer.finish({"napari-blockbuster": provenance})
    put_in_place(temporary, target, overwrite)
    write_atomically(job.folder / "result.json", _json(provenance))
    failed = {i: failure.message for i, failure in job.failed().items()}
    missing = sorted(set(range(job.n_tiles)) - job.staged())
    return Result(target, merged.n_objects, failed, missing, merged.seams, merged.joined, provenance)


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
    advance(run(WriteTileWork(job.store, writer, merged), TileQueue(i for i in job.grid.order() if i in wanted), client))
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
        },
        "versions": job.spec.versions,
    }


def _json(value: Any) -> bytes:
    import json

    return json.dumps(value, indent=2).encode()
