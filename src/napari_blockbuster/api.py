"""Segment an image, or many, in one call; convert an image first; relate two label images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.images import Collection, Member, find_images, open_image
from napari_blockbuster.images.opening import open_all_channels
from napari_blockbuster.images.places import name_of
from napari_blockbuster.job.batch.report import BatchResult
from napari_blockbuster.job.batch.run import Batch
from napari_blockbuster.job.batch.targets import targets_of
from napari_blockbuster.job.job import Job
from napari_blockbuster.job.progress.bar import Progress
from napari_blockbuster.job.setup.preflight import check_time_limit
from napari_blockbuster.job.steps.completion import Finish, Watch, finish
from napari_blockbuster.measure.overlaps import pair_grid
from napari_blockbuster.measure.relation import Relation, check_pair, relate_images
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.merge.pairs import PairOfLabels, labels_of, pairs_of
from napari_blockbuster.models import Model, as_model
from napari_blockbuster.output.conversion import Conversion
from napari_blockbuster.output.label_copy import check_target, write_label_image
from napari_blockbuster.output.ngff import check_version
from napari_blockbuster.output.result import Result, converted_output

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["convert", "relate", "segment", "segment_many"]


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
    cut: Iterable[PairOfLabels] = (),
    join: Iterable[PairOfLabels] = (),
    remove: Iterable[tuple[int, int]] = (),
    keep_stage: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    tile_timeout: float | None = None,
    ome_zarr_version: str | None = None,
    measure: int | str | Sequence[int | str] | None = None,
    csv: bool = False,
    where: Any = None,
    inside: str | None = None,
    skip_empty: bool = False,
    skip_below: float | None = None,
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
    cut, join : iterable of ((tile, id), (tile, id)), optional
        Corrections by hand: pairs of labels of the tiles that are kept apart or joined whatever the rule says. They become
        decisions of the job. They name labels that this model finds in these tiles.
    remove : iterable of (tile, id), optional
        Labels of the tiles that become background.
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
    measure : int, str or sequence of these, optional
        Channels whose intensities the table has, in addition to those that the model sees.
    csv : bool, default False
        Also write the table as CSV.
    where : path, array, dict, str or sequence, optional
        Region of interest. Tiles that do not meet it are skipped, and are background in the result. A mask or label image
        of any resolution (path or array; all values but 0 are inside), GeoJSON (path or dict, in pixels of the full
        resolution), a box (``"0:50,100:900,:"`` in voxels, ``"0um:25um,:,:"`` in world coordinates), indices of tiles, or a
        list of these. Default: everywhere. The tiles are kept, so that a larger region can continue the job.
    inside : {"centroid", "touching", "clip"}, optional
        Objects that are in the result: those whose centroid lies inside, as a whole (the default); those with any voxel
        inside, as a whole (the default for indices of tiles); or only the voxels inside.
    skip_empty : bool, default False
        Skip tiles whose pixels, halo included, all have one value. Chunks that an OME-Zarr does not store are not read for this.
        Other images are read once before the run.
    skip_below : float, optional
        Skip tiles without a pixel above this value, halo included. The image is read once before the run.

    Returns
    -------
    Result
        ``labels`` (lazy), ``table`` (a row for each object), ``path``, ``n_objects``, ``failed_tiles``, ``n_skipped``,
        ``seams``, ``provenance``.

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
    by_hand = {"cut": pairs_of(cut, "cut"), "join": pairs_of(join, "join"), "remove": labels_of(remove, "remove")}
    writing = {"overwrite": overwrite, "ome_zarr_version": ome_zarr_version, "csv": csv, "keep_stage": keep_stage}
    steps: dict[str, Any] = by_hand | writing
    asked = Finish(merge, min_iou, connectivity, sequential_labels, filter, **steps)
    _check_cluster(client, tile_timeout)
    part: dict[str, Any] = {"channel": channel, "level": level, "axes": axes, "scene": scene, "spacing": spacing}
    part |= {"tile_shape": tile_shape, "halo": halo, "measure": measure, "overwrite": overwrite}
    part |= {"where": where, "inside": inside, "skip_empty": skip_empty, "skip_below": skip_below}
    job = Job.create(image, model, output, **part)
    asked, watch = asked.begun(job), Watch()
    with Progress(enabled=progress) as bar:
        bar.follow(job.stage(client, heartbeat=1.0, tile_timeout=tile_timeout))
        watch.lap("tiles")
        return finish(job, asked, client, bar.advance_to, watch).result


def segment_many(
    images: str | Path | Sequence[str | Path],
    model: str | Model | Callable[[np.ndarray], np.ndarray] = "voronoi-otsu",
    output: str | Path | None = None,
    *,
    name: str = "segmentation",
    scene: int | str | None = None,
    client: Client | None = None,
    overwrite: bool = False,
    progress: bool = True,
    tile_timeout: float | None = None,
    **options: Any,
) -> BatchResult:
    """Segment the images of a folder, a pattern, a plate or a list. Each has its own labels and its own job folder.

    An image that cannot be segmented is reported in the result, and the others follow. If interrupted, call it again with
    the same arguments: images with labels are skipped, failed tiles are tried again.

    Parameters
    ----------
    images : path, URL or sequence of these
        A folder of images, a pattern such as ``"folder/*.tif"``, an OME-Zarr plate, or paths.
    model : str, Model or callable
        See `segment`. Measured on each image, loaded once.
    output : path, optional
        Folder of the labels, in which the images keep their relative paths. Default: ``<image>.labels.ome.zarr`` next to each
        image; ``labels/<name>`` inside each field of a plate.
    name : str, default "segmentation"
        Name of the labels in the fields of a plate.
    scene : int or str, optional
        As in `segment`, for each file; ``"all"``: every image of every file.
    client, overwrite, progress, tile_timeout
        See `segment`.
    **options
        Further arguments of `segment`, the same for each image.

    Returns
    -------
    BatchResult
        A sequence of outcomes with ``exit_code``, ``summary()``, ``table()`` and ``save(path)``.

    Raises
    ------
    ValueError, OSError
        If there are no images, or if arguments cannot be used for any of them.
    StoreError, ClusterLostError
        If the disk or the cluster fails. Repeat the call to resume.
    """
    finishing = {key: options.pop(key) for key in _FINISH if key in options}
    if unknown := set(options) - _CREATE:
        raise TypeError(f"segment_many() got an unexpected keyword argument {sorted(unknown)[0]!r}")
    asked = Finish(overwrite=overwrite, **finishing)
    _check_cluster(client, tile_timeout)
    found = find_images(images)
    if found is None:
        if not isinstance(images, str | Path):
            raise TypeError(f"images is {type(images).__name__}. Pass paths, and arrays one at a time to segment")
        found = Collection("list", str(images), (Member(name_of(str(images)), str(images)),))
    targets = targets_of(found, output, name, scene)
    batch = Batch(targets, as_model(model), asked, options, tile_timeout)
    return BatchResult(list(batch.run(client, progress)))


def _check_cluster(client: Client | None, tile_timeout: float | None) -> None:
    check_time_limit(tile_timeout, client)
    if client is not None:
        from napari_blockbuster.execution.cluster import check_client

        check_client(client)


_CREATE = {"tile_shape", "halo", "channel", "level", "axes", "spacing", "measure", "where", "inside"}
_CREATE |= {"skip_empty", "skip_below"}
_FINISH = {"merge", "min_iou", "connectivity", "sequential_labels", "filter", "keep_stage", "ome_zarr_version", "csv"}
"""Arguments of `segment` that belong to the steps before and after the tiles."""


def convert(
    image: str | Path,
    output: str | Path | None = None,
    *,
    level: int = 0,
    axes: str | None = None,
    scene: int | str | None = None,
    spacing: float | Sequence[float | None] | None = None,
    overwrite: bool = False,
    progress: bool = True,
    ome_zarr_version: str = "0.5",
) -> Path:
    """Convert an image into an OME-Zarr with small chunks and a pyramid, from which tiles with halos are read quickly.

    All channels are converted. Memory holds a block at a time, or a chunk of the image if that is larger. The result appears
    at its place when it is complete; if interrupted, the same call continues.

    Parameters
    ----------
    image : path, URL or array
    output : path, optional
        Default: ``<image>.ome.zarr`` next to the image.
    level, axes, scene, spacing
        See `segment`.
    overwrite : bool, default False
        Replace an existing output.
    progress : bool, default True
        Show a progress bar.
    ome_zarr_version : {"0.5", "0.4"}

    Returns
    -------
    Path
        The OME-Zarr.

    Raises
    ------
    FileExistsError
        If the output exists and `overwrite` is false.
    ValueError, OSError
        If an argument cannot be used, or the image cannot be read.
    """
    check_version(ome_zarr_version)
    channels, names = open_all_channels(image, level=level, axes=axes, scene=scene, spacing=spacing)
    target = converted_output(channels[0]) if output is None else Path(output).expanduser().absolute()
    with Progress(enabled=progress) as bar:
        return Conversion(channels, names, target, ome_zarr_version).run(overwrite, bar.advance_to("convert"))


def relate(
    cells: Any,
    nuclei: Any,
    output: str | Path | None = None,
    *,
    level: int = 0,
    axes: str | None = None,
    client: Client | None = None,
    overwrite: bool = False,
    progress: bool = True,
    ome_zarr_version: str = "0.5",
) -> Relation:
    """Relate two label images of the same pixels: find the cell of each nucleus, and the nuclei of each cell.

    The two images may come from anywhere. They are read tile by tile, and only the number of voxels that each pair of
    labels shares is kept.

    Parameters
    ----------
    cells, nuclei : path, URL, zarr.Array, dask array or numpy array
        Labels: integers, 0 for background, of equal shape. Any two kinds of objects will do: the first are the parents, the
        second the children.
    output : path, optional
        Also write the cells without their nuclei as an OME-Zarr.
    level, axes
        See `segment`.
    client : distributed.Client, optional
        Cluster that reads the tiles. None: this process.
    overwrite : bool, default False
        Replace an existing output.
    progress : bool, default True
        Show a progress bar.
    ome_zarr_version : {"0.5", "0.4"}

    Returns
    -------
    Relation
        Tables ``parents`` (cells) and ``children`` (nuclei), and ``remainder``: the cells without their nuclei, lazily.

    Raises
    ------
    ValueError
        If the shapes differ, or an image holds no labels.
    FileExistsError
        If the output exists and `overwrite` is false.
    """
    check_version(ome_zarr_version)
    parents, children = (open_image(image, level=level, axes=axes) for image in (cells, nuclei))
    check_pair(parents, children)
    target = None if output is None else Path(output).expanduser().absolute()
    if target is not None:
        for source in (parents, children):
            replaced = check_target(target, source, overwrite)
    with Progress(enabled=progress) as bar:
        relation = relate_images(parents, children, client, bar.advance_to("relate"))
        if target is not None:
            source = relation.remainder_source
            largest = int(relation.overlaps["parent"].max(initial=0))
            write_label_image(
                source,
                target,
                pair_grid(parents),
                dtype=np.uint32 if largest < 2**32 else np.uint64,
                replaced=replaced,
                provenance={"remainder_of": [parents.name, children.name]},
                version=ome_zarr_version,
                client=client,
                progress=bar.advance_to("write"),
            )
    return relation
