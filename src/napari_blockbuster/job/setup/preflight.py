"""Checks before the first tile: output, disk space, memory, versions, workers, model."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from napari_blockbuster.execution import waits
from napari_blockbuster.execution.admission.admission import (
    LOADING,
    Requirements,
    Survey,
    dask_versions,
    look_around,
    unanswered,
)
from napari_blockbuster.execution.admission.model_checks import (
    DEATHS,
    load_shipped,
    loading_killed,
    not_loaded,
    shipped_model,
)
from napari_blockbuster.geometry.tiles import Tile, TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.job.folder.results import restore_output, wrote
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.limits import memory_limit_bytes
from napari_blockbuster.machine.system import name_limit
from napari_blockbuster.machine.units import bytes_text, shape_text
from napari_blockbuster.models import Model
from napari_blockbuster.output.result import job_folder
from napari_blockbuster.output.table_files import check_table_files
from napari_blockbuster.output.tables.anndata_table import check_image_table

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "check_memory",
    "check_name",
    "check_output",
    "check_space",
    "check_time_limit",
    "check_workers",
    "checking_workers",
]

LABEL_BYTES = 4
"""Bytes of a label in memory, at least."""


# -------------------------------------------------------------------------------------------------------------- places
def check_output(output: Path, source: ImageSource, overwrite: bool) -> None:
    """Refuse an output that is the input, exists, or cannot be written.

    Raises
    ------
    ValueError
        If writing would overwrite the image, also with `overwrite`.
    FileExistsError
        If it exists and `overwrite` is false.
    PermissionError, NotADirectoryError
        If the folder cannot be written.
    """
    check_name(output)
    try:
        aliased = source.aliases(output)
    except (RuntimeError, OSError) as error:
        # Python before 3.13 raises RuntimeError for a loop.
        raise ValueError(f"the output {output} cannot be followed ({error}): a link that leads to itself?") from None
    if aliased:
        raise ValueError(
            f"the output {output} is the image itself, or holds or lies in its pixels. Choose another output"
        )
    restore_output(output)
    if os.path.lexists(output) and not (overwrite or wrote(job_folder(output), output)):
        raise FileExistsError(
            f"the output {output} exists. Choose another one, or pass overwrite=True (--overwrite) to replace it"
        )
    check_table_files(output, overwrite)
    check_image_table(output, overwrite)
    folder = job_folder(output).parent
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if not existing.is_dir():
        raise NotADirectoryError(f"the output {output} cannot be created: {existing} is a file")
    _try_to_write(existing, output)


def check_name(output: Path) -> None:
    """Refuse an output whose name, or that of its job folder, is longer than its disk allows.

    Raises
    ------
    ValueError
    """
    limit = name_limit(next((p for p in output.parents if _is_there(p)), output.parent))
    for part in (*output.parts[1:], job_folder(output).name):
        length = len(os.fsencode(part))
        if length > limit:
            raise ValueError(
                f"a name of the output is too long: {length} bytes with what belongs to it, and the disk allows {limit} "
                f"({part[:40]}...). Choose a shorter one"
            )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _try_to_write(folder: Path, output: Path) -> None:
    """Write a file: permissions do not reveal read-only mounts, quotas and full disks."""
    probe = folder / f".blockbuster-{uuid.uuid4().hex[:8]}.tmp"
    try:
        probe.write_bytes(b"?")
    except OSError as error:
        why = f"{folder} is not writable ({error.strerror}). Choose another output or change its permissions"
        raise PermissionError(f"the output {output} cannot be created: {why}") from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def check_space(
    folder: Path, grid: TileGrid, source: ImageSource, replaced: Path | None = None, n_tiles: int | None = None
) -> None:
    """Refuse to start if the result cannot fit, even after the job folder `replaced` is deleted.

    Parameters
    ----------
    folder : Path
    grid : TileGrid
    source : ImageSource
    replaced : Path, optional
    n_tiles : int, optional
        Number of tiles that are segmented. Default: all.

    Raises
    ------
    OSError
        With the free space and the space needed.
    """
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    try:
        total, _, free = shutil.disk_usage(existing)
    except OSError:
        # Some network disks do not report it.
        return
    if total == 0:
        return
    needed = estimated_bytes(grid, n_tiles)
    if free < needed and replaced is not None:
        free += sum(path.lstat().st_size for path in replaced.rglob("*") if path.is_file())
    if free < needed:
        raise OSError(
            f"{existing} has {bytes_text(free)} free, and the tiles and labels of {source.name} need about "
            f"{bytes_text(needed)}. Free some space or choose an output on another disk"
        )


def estimated_bytes(grid: TileGrid, n_tiles: int | None = None) -> int:
    """Return the disk space of stage, bands and result, at most in practice: 4 bytes per label, compressed 20 to 60 times.

    Tiles that are skipped take none. `n_tiles`: number of the others; None for all.
    """
    bands = sum(2 * 2 * min(1.0, grid.depth(axis) / grid.tile_shape[axis]) for axis in range(grid.ndim))
    share = 1.0 if n_tiles is None else n_tiles / len(grid)
    return int(math.prod(grid.shape) * share * 4 / 20 * (2.2 + bands))


# -------------------------------------------------------------------------------------------------------------- memory
def check_memory(limit: int | None, grid: TileGrid, source: ImageSource) -> None:
    """Refuse tiles that cannot fit into a process with any model.

    A tile needs its pixels and two copies of its labels. While the model computes, the pixels of the next tile and the labels
    of the last one are in memory as well.

    The first tile (`napari_blockbuster.stage.trial`) or a preview shows how much more a model takes.

    Parameters
    ----------
    limit : int or None
        Bytes of the process with the least memory, from `check_workers`.
    grid : TileGrid
    source : ImageSource

    Raises
    ------
    JobError
        With the memory that a tile needs, the memory of a process, and the largest tile that fits.
    """
    voxels = max(math.prod(tile.read.shape) for tile in _corner_and_middle(grid))
    pixel = source.dtype.itemsize * source.n_channels
    alone = pixel + 2 * LABEL_BYTES
    per_voxel = alone + (pixel if len(grid) > 1 else 0) + (LABEL_BYTES if len(grid) > 2 else 0)
    if limit is None or voxels * per_voxel <= limit:
        return
    spatial = sum(n > 1 for n in grid.tile_shape)
    side = int((limit / per_voxel) ** (1 / max(spatial, 1)))
    raise JobError(
        f"a tile of {shape_text(grid.tile_shape)} voxels with its halo of {shape_text(grid.halo)} needs at least "
        f"{bytes_text(voxels * alone)}, {bytes_text(voxels * per_voxel)} with those that are read and written "
        f"meanwhile, and a process has {bytes_text(limit)}. Use smaller tiles (with their halo under "
        f"{side} voxels a side, and well under for most models), or workers with more memory"
    )


def _corner_and_middle(grid: TileGrid) -> list[Tile]:
    """Return two tiles, one of which has the largest read box."""
    return [grid[grid.index([min(place, n - 1) for n in grid.grid_shape])] for place in (0, 1)]


# ------------------------------------------------------------------------------------------------------------- workers
def check_time_limit(seconds: float | None, client: Client | None) -> None:
    """Refuse a time limit that is not positive or cannot be enforced.

    Raises
    ------
    ValueError
    """
    if seconds is None:
        return
    if not seconds > 0:
        raise ValueError(f"tile_timeout is {seconds:g} s. Give a number of seconds above 0")
    if client is None:
        raise ValueError(
            f"tile_timeout={seconds:g} needs worker processes: a model that hangs in this process cannot be stopped. "
            "Pass client= of make_local_cluster() (on the command line --workers 1 or more)"
        )


def check_workers(client: Client | None, folder: Path, model: Model) -> int | None:
    """Refuse workers that run in this process, have other versions, or lack the job folder or the model.

    Waits for a worker if there is none yet.

    Returns
    -------
    int or None
        Memory of the process with the least memory, in bytes; None if no worker has a limit.

    Raises
    ------
    RuntimeError
        If a worker lives in this process.
    JobError
        With the name of the worker and a remedy.
    """
    return waits.complete(checking_workers(client, folder, model))


def checking_workers(client: Client | None, folder: Path, model: Model) -> waits.Wait[int | None]:
    """`check_workers` as a wait, which can be followed and canceled."""
    if client is None:
        _load(model, "here")
        return memory_limit_bytes()
    from napari_blockbuster.execution.cluster import check_client

    check_client(client)
    yield from _check_scheduler(client)
    requirements = Requirements.of(folder)
    deaths = 0
    while True:
        workers = yield from waits.some_workers(client)
        memory = yield from _survey(client, workers, requirements)
        try:
            yield from _load_on(client, workers[0], model)
        except waits.WorkerGoneError as gone:
            deaths += 1
            if deaths >= DEATHS:
                raise JobError(loading_killed(str(gone))) from None
            continue
        return memory


def _survey(client: Client, workers: list[str], requirements: Requirements) -> waits.Wait[int | None]:
    """Compare the workers with this process; return the smallest memory limit."""
    folder = str(requirements.folder)
    ask = functools.partial(client.run, look_around, folder, workers=workers, on_error="return")
    try:
        answers = yield from waits.answer_of_workers(client, ask, f"{len(workers)} workers, {workers[0]} among them")
    except OSError as error:
        raise waits.lost(str(error)) from error
    except TimeoutError as error:
        raise JobError(f"{error}. Restart the workers that hang, and resume.") from error
    present = yield from waits.workers_of(client)
    memory = []
    for worker, there in answers.items():
        if isinstance(there, Survey):
            if problem := requirements.problem(there):
                raise JobError(f"worker {worker} {problem}")
            memory.append(there.memory)
        elif worker in present:
            raise JobError(unanswered(worker, there))
    return min((each for each in memory if each), default=None)


def _load_on(client: Client, worker: str, model: Model) -> waits.Wait[None]:
    task = client.submit(load_shipped, shipped_model(model), workers=[worker], pure=False)
    what = f"worker {worker} to load the model"
    try:
        problem = yield from waits.result_from(client, task, worker, what, LOADING)
    except TimeoutError as error:
        raise JobError(not_loaded(f"on worker {worker}", str(error))) from error
    finally:
        with contextlib.suppress(Exception):
            client.cancel([task], force=True)
            task.release()
    if problem:
        raise JobError(not_loaded(f"on worker {worker}", problem))


def _check_scheduler(client: Client) -> waits.Wait[None]:
    """Refuse a scheduler with another version of dask."""
    ask = functools.partial(client.run_on_scheduler, dask_versions)
    try:
        there, here = (yield from waits.answer(ask)), dask_versions()
    except ModuleNotFoundError:
        # A scheduler needs no napari-blockbuster of its own.
        return
    except (OSError, TimeoutError) as error:
        raise waits.lost(str(error)) from error
    assert client.scheduler is not None
    for package, mine in here.items():
        if there[package] != mine:
            raise JobError(
                f"the scheduler {client.scheduler.address} has {package} {there[package]}, this process has {mine}. "
                f"Install {package} {mine} where the scheduler runs, or its version here and on the workers"
            )


def _load(model: Model, where: str) -> None:
    from napari_blockbuster.models.loaded_model import load_once

    try:
        load_once(model)
    except Exception as error:
        raise JobError(not_loaded(where, f"{type(error).__name__}: {error}")) from error
