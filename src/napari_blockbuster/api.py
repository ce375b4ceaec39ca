"""Segment an image in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.job.job import Job
from napari_blockbuster.job.progress.bar import Progress
from napari_blockbuster.job.setup.preflight import check_time_limit
from napari_blockbuster.job.steps.completion import Finish, Watch, finish
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.models import Model
from napari_blockbuster.output.result import Result

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["segment"]


def segment(
    image: Any,
    model: str | Model | Callable[[np.ndarray], np.ndarray] = "voronoi-otsu",
    output: str | Path | None = None,
    *,
    tile_shape: int | Sequence[int] | None = None,
    halo: int | Sequence[int] | None = None,
    channel: int | str | Sequence[int | str] | None = None,
    level: int = 0,
    axes: str | None = None,
    scene: int | str | None = None,
    spacing: float | Sequence[float | None] | None = None,
    client: Client | None = None,
    merge: str = "overlap",
    min_iou: float | None = None,
    connectivity: int = 1,
    sequential_labels: bool = True,
    filter: ObjectFilter | None = None,
    keep_stage: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    tile_timeout: float | None = None,
    ome_zarr_version: str | None = None,
) -> Result:
    """Segment an image of any size into one consistent set of labels.

    Finished tiles are on disk. If interrupted, call it again with the same arguments to resume.

    Parameters
    ----------
    image : path, URL, zarr.Array, dask array or numpy array
        OME-Zarr, zarr, TIFF, or an array; 1 to 3 spatial axes, with or without channels and time.
    model : str, Model or callable
        Name of a model, a `Model` with settings, or any function from pixels to integer labels of the same shape.
    output : path, optional
        OME-Zarr of the labels. Default: ``<image>.labels.ome.zarr`` next to the image.
    tile_shape : int or sequence of int, optional
        In voxels along the spatial axes. Default: chosen from chunks, memory and model.
    halo : int or sequence of int, optional
        Context around each tile, in voxels; at least the size of the largest object. Default: the model's suggestion.
    channel : int, str or sequence of these, optional
        Channel to segment, by number or name; needed if the image has several. A sequence for a model that takes several
        channels: ``channel=(0, 2)``.
    level : int, default 0
        Resolution level of a pyramid; 0 is the finest.
    axes : str, optional
        Names of the axes, if the image has none: ``"tzyx"``.
    scene : int or str, optional
        Number or name of an image in a file that holds several.
    spacing : float or sequence of float, optional
        Size of a voxel along each spatial axis at full resolution, in micrometers. Default: as the image says.
    client : distributed.Client, optional
        A process cluster, for example from `make_local_cluster`. None: this process, one tile at a time.
    merge : {"overlap", "face", "touch", "none"}
        Which labels are one object across a seam; see `napari_blockbuster.merge.rules`.
    min_iou : float, optional
        Threshold of the rule. None: its default.
    connectivity : {1, 2, 3}
        For ``merge="touch"``.
    sequential_labels : bool, default True
        Number the objects 1..n.
    filter : ObjectFilter, optional
        Which merged objects are kept, by size or place, and whether their holes are filled. Default: all, as they are.
    keep_stage : bool, default False
        Keep the staged tiles after a complete run, to merge again with `Job.open`.
    overwrite : bool, default False
        Replace an existing output.
    progress : bool, default True
        Show a progress bar.
    tile_timeout : float, optional
        Seconds after which a tile counts as hanging; needs a `client`. See `Job.stage`.
    ome_zarr_version : {"0.5", "0.4"}, optional
        Default: that of the OME-Zarr image that the labels lie in, else 0.5.

    Returns
    -------
    Result
        ``labels`` (lazy), ``path``, ``n_objects``, ``failed_tiles``, ``seams``, ``provenance``.

    Raises
    ------
    RuntimeError
        If the client's workers live in this process.
    FileExistsError
        If the output exists and `overwrite` is false, or if something else appeared in its place during the run.
    NothingStagedError
        If every tile failed. No result is written, and the errors are kept in the job folder.
    ValueError, OSError
        If an argument cannot be used. The message gives the reason and a remedy.

    Examples
    --------
    >>> from napari_blockbuster import segment
    >>> result = segment("brain.ome.zarr", "voronoi-otsu", halo=32)  # doctest: +SKIP
    >>> result.n_objects, result.labels  # doctest: +SKIP
    """
    asked = Finish(merge, min_iou, connectivity, sequential_labels, filter, keep_stage, overwrite, ome_zarr_version)
    check_time_limit(tile_timeout, client)
    if client is not None:
        from napari_blockbuster.execution.cluster import check_client

        check_client(client)
    job = Job.create(
        image,
        model,
        output,
        tile_shape=tile_shape,
        halo=halo,
        channel=channel,
        level=level,
        axes=axes,
        scene=scene,
        spacing=spacing,
        overwrite=overwrite,
    )
    asked, watch = asked.begun(job), Watch()
    with Progress(enabled=progress) as bar:
        bar.follow(job.stage(client, heartbeat=1.0, tile_timeout=tile_timeout))
        watch.lap("tiles")
        return finish(job, asked, client, bar.advance_to, watch).result
