"""Preview of one tile before the run, and an estimate of time and space for the whole run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.geometry.tiles import Box, Tile, TileGrid
from napari_blockbuster.images import ImageSource, open_image
from napari_blockbuster.job.progress.events import TileFailed
from napari_blockbuster.job.setup.channels import check_channels
from napari_blockbuster.job.setup.preflight import estimated_bytes
from napari_blockbuster.machine.limits import worker_limit_bytes
from napari_blockbuster.machine.memory.peak_memory import PeakMemory
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.models import Model, get_model
from napari_blockbuster.models.loaded_model import load_once
from napari_blockbuster.models.planes import prepared_on, segmented
from napari_blockbuster.stage.labels import compact
from napari_blockbuster.stage.work import PixelWork

from .job import Job

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Estimate", "Preview", "SeamPreview", "estimate", "preview_seam", "preview_tile", "warm_up"]


WARM_SECONDS = 60
"""Most time that workers get to be warm."""


@dataclass(frozen=True)
class Preview:
    """Labels of a model in one tile.

    Attributes
    ----------
    tile : Tile
    core, halo : numpy.ndarray
        Unsigned. Labels of the core, as the tile would write them; and labels of the read box, 0 in the core.
    n_objects : int
        Objects with a voxel in the core.
    extent : tuple of int
        Along each spatial axis, the extent in voxels of the longest whole object.
    load_seconds, seconds : float
        To build the model (once per worker), and for this tile.
    peak_bytes : int
        Peak memory of the worker process during the tile.
    limit_bytes : int or None
        Memory limit of the worker process; None without a limit.
    footprint : str
        Memory use that the model reports, for example on a GPU; empty if it reports none.
    """

    tile: Tile
    core: np.ndarray
    halo: np.ndarray
    n_objects: int
    extent: tuple[int, ...]
    load_seconds: float
    seconds: float
    peak_bytes: int
    limit_bytes: int | None = None
    footprint: str = ""

    @property
    def tight(self) -> bool:
        """Whether a worker comes close to its limit: dask pauses it at 80 % and ends it at 95 %."""
        return self.limit_bytes is not None and self.peak_bytes > 0.7 * self.limit_bytes


@dataclass(frozen=True)
class Estimate:
    """Time and space of a whole run, estimated from one tile.

    Attributes
    ----------
    n_tiles : int
        Tiles that the run segments.
    """

    n_tiles: int
    seconds: float
    disk_bytes: int
    worker_bytes: int


@dataclass
class _PreviewWork(PixelWork[Preview]):
    def __call__(self, item: int, payload: Callable[[], np.ndarray] | None) -> Callable[[], Preview]:
        found = self._segment(self.grid[item], self.reader(item, payload)())
        return lambda: found

    def _segment(self, tile: Tile, pixels: np.ndarray) -> Preview:
        began = time.perf_counter()
        segmenter = load_once(self.model)
        loaded = time.perf_counter()
        frames = self.grid.separate_axes
        spatial = pixels.reshape(pixels.shape[frames:])
        with PeakMemory() as peak:
            labels = segmented(segmenter, spatial, self.plane)
        seconds = time.perf_counter() - loaded
        # Labels of the whole read box, numbered as if all of it were core: the viewer shows what the halo holds as well.
        everything = Tile(tile.index, tile.position, tile.read, tile.read)
        found = compact(labels, everything, self.grid, "the model")
        # A tile may be a hundred million voxels: it travels and is shown in the smallest type that holds its labels.
        halo = found.labels.astype(np.min_scalar_type(len(found.objects)))
        core = halo[tile.trim].copy()
        halo[tile.trim] = 0
        n_objects = int(np.count_nonzero(np.bincount(core.ravel(), minlength=1)[1:]))
        extent = _longest(found.labels, found.objects["cut"], frames)
        said = str(getattr(segmenter, "footprint", ""))
        memory = (peak.most, worker_limit_bytes(), said)
        return Preview(tile, core, halo, n_objects, extent, loaded - began, seconds, *memory)

    def lost(self, item: int, error: BaseException) -> Preview:
        raise error


def _longest(labels: np.ndarray, cut: np.ndarray, frames: int) -> tuple[int, ...]:
    """Return the extent of the longest object along each spatial axis. Objects cut by the read box do not count."""
    from scipy import ndimage

    boxes = ndimage.find_objects(labels.reshape(labels.shape[frames:]).astype(np.int32, copy=False))
    whole = [box for box, is_cut in zip(boxes, cut, strict=False) if box is not None and not is_cut]
    ndim = labels.ndim - frames
    return tuple(max((b[a].stop - b[a].start for b in whole), default=0) for a in range(ndim))


def preview_tile(
    source: ImageSource,
    model: Model,
    grid: TileGrid,
    index: int,
    client: Client | None = None,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> Preview | None:
    """Run a prepared model on one tile, with its halo. Nothing is written.

    Parameters
    ----------
    source : ImageSource
    model : Model
        Prepared on the whole image (`Model.prepare`), so that the tile looks as it will in the run.
    grid : TileGrid
    index : int
        The tile.
    client : distributed.Client, optional
        A process cluster. None: this thread.
    cancelled : callable, optional
        Called ten times a second, on a cluster; True cancels the preview.

    Returns
    -------
    Preview or None
        None if it was canceled.

    Raises
    ------
    Exception
        Any exception of the model.
    """
    check_channels(source, model)
    work = _PreviewWork(grid, model, source if source.shippable else None, source)
    results = run(work, TileQueue([index]), client, heartbeat=0.1)
    try:
        for found in results:
            if found is not None:
                return found
            if cancelled is not None and cancelled():
                return None
    finally:
        results.close()
    raise RuntimeError(f"{grid[index]} gave no result")


def warm_up(client: Client) -> None:
    """Segment a tiny image in this process and on each worker, so that the first preview waits for no import.

    Parameters
    ----------
    client : distributed.Client
        A process cluster.
    """
    workers = list(client.nthreads())
    tasks = [client.submit(_segment_tiny, workers=[worker], pure=False) for worker in workers]
    _segment_tiny()
    for task in tasks:
        task.result(timeout=WARM_SECONDS)


def _segment_tiny() -> None:
    image = np.zeros((16, 16, 16), np.uint16)
    image[4:12, 4:12, 4:12] = 1000
    source = open_image(image)
    model = prepared_on(get_model("voronoi-otsu", diameter=8), source)
    preview_tile(source, model, TileGrid(image.shape, image.shape, (0, 0, 0)), 0)


@dataclass(frozen=True)
class SeamPreview:
    """Two tiles at a seam, and their merge.

    Attributes
    ----------
    box : Box
        Both cores.
    before, after : numpy.ndarray
        Labels in `box`, numbered through both tiles, and merged.
    merged : Merge
    """

    box: Box
    before: np.ndarray
    after: np.ndarray
    merged: Merge


def preview_seam(
    source: ImageSource,
    model: Model,
    grid: TileGrid,
    tiles: tuple[int, int],
    folder: Path,
    *,
    client: Client | None = None,
    **rule: Any,
) -> SeamPreview:
    """Stage the two tiles of a seam and merge them, as a run would.

    Parameters
    ----------
    source, model, grid, client
        See `preview_tile`.
    tiles : tuple of int
        Two tiles that touch by a face.
    folder : Path
        An empty folder that the workers can write to; the caller deletes it.
    **rule
        Arguments of `Job.merge`.

    Raises
    ------
    RuntimeError
        If a tile failed, with the error of the model.
    """
    frames = grid.separate_axes
    job = Job.create(
        source, model, folder / "seam.ome.zarr", tile_shape=grid.tile_shape[frames:], halo=grid.halo[frames:]
    )
    for event in job.stage(client, tiles=tiles):
        if isinstance(event, TileFailed):
            raise RuntimeError(f"{event.tile}: {event.failure.error}: {event.failure.message}")
    merged = job.merge(**rule)
    low, high = (grid[index] for index in sorted(tiles))
    box = Box(low.core.start, high.core.stop)
    before, after = np.zeros(box.shape, np.uint32), np.zeros(box.shape, np.uint32)
    for tile in (low, high):
        place = tile.core.within(box)
        local = job.tiles.read_labels(tile)
        before[place] = np.where(local > 0, local + int(merged.labels_table.offsets[tile.index]), 0)
        after[place] = merged.table(tile.index)[local]
    return SeamPreview(box, before, after, merged)


def estimate(found: Preview, grid: TileGrid, n_workers: int, n_tiles: int | None = None) -> Estimate:
    """Estimate time and space of the whole run from one tile; disk space as in `napari_blockbuster.job.setup.preflight`.

    Parameters
    ----------
    found : Preview
    grid : TileGrid
    n_workers : int
    n_tiles : int, optional
        Number of tiles that the run segments. None: all of them.
    """
    n = len(grid) if n_tiles is None else n_tiles
    # Ragged tiles at the far edges take less: what counts is voxels, not tiles.
    tiles = float(np.prod(grid.shape, dtype=np.float64)) / found.tile.core.size * n / len(grid)
    seconds = found.load_seconds + found.seconds * tiles / max(min(n_workers, n), 1)
    return Estimate(n, seconds, estimated_bytes(grid, n_tiles), found.peak_bytes)
