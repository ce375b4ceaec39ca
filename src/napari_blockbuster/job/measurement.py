"""Measure any label image on any image, and write the table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_blockbuster.images import ChannelsSource, ImageSource, open_image
from napari_blockbuster.images.opening import open_all_channels
from napari_blockbuster.job.progress.bar import Progress
from napari_blockbuster.job.setup.channels import measured_channels
from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.files import beside
from napari_blockbuster.measure.label_image import measure_label_image
from napari_blockbuster.measure.regions import RegionFunction, check_properties
from napari_blockbuster.output.tables.parquet import save_table

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

__all__ = ["measure_objects"]


def measure_objects(
    labels: Any,
    image: Any = None,
    output: str | Path | None = None,
    *,
    channel: int | str | Sequence[int | str] | None = None,
    level: int = 0,
    labels_level: int = 0,
    axes: str | None = None,
    labels_axes: str | None = None,
    scene: int | str | None = None,
    spacing: float | Sequence[float | None] | None = None,
    properties: Sequence[str] = (),
    functions: Sequence[RegionFunction] = (),
    client: Client | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure the objects of a label image of any origin: one row for each object.

    Sums are taken in parallel over tiles, so that neither image has to fit into memory.

    Parameters
    ----------
    labels : path, URL or array
        Label image in any format that can be read; integers, 0 for background. Labels need not be consecutive.
    image : path, URL or array, optional
        Image of the same shape, or another level of the same pyramid: each voxel of the labels then gets the pixel at its center.
        None: only sizes, places and shapes.
    output : path, optional
        Write the table: Parquet if the name ends in .parquet, else CSV. If interrupted, the same call continues.
    channel : int, str or sequence of these, optional
        Channels of the image to measure. Default: all.
    level, labels_level : int, default 0
        Level of the pyramid of the image, and of the labels.
    axes, labels_axes : str, optional
        Names of the axes, if the image or the labels have none: ``"tczyx"``.
    scene, spacing
        Of the image; see `napari_blockbuster.segment`.
    properties : sequence of str, optional
        Properties that are not sums: names of `skimage.measure.regionprops` such as ``"solidity"`` and
        ``"feret_diameter_max"``, ``"intensity_median"``, or ``"intensity_percentile_90"``. Each object is visited once in its
        bounding box. Lengths and areas are in voxels.
    functions : sequence of callable, optional
        ``function(region) -> {name: number}``, with a region of skimage (``region.image``, ``region.image_intensity``).
    client : distributed.Client, optional
        A process cluster. None: this process, one tile at a time.
    overwrite : bool, default False
        Replace an existing `output`.
    progress : bool, default True
        Show a progress bar.

    Returns
    -------
    pandas.DataFrame
        The columns of `napari_blockbuster.Result.table`, without those on seams.

    Raises
    ------
    FileExistsError
        If `output` exists and `overwrite` is false.
    ValueError, OSError
        If the images cannot be used together, or a property does not exist.
    """
    target = None if output is None else Path(output).expanduser().absolute()
    if target is not None and os.path.lexists(target) and not overwrite:
        raise FileExistsError(f"The table {target} exists. Pass overwrite=True (--overwrite) to replace it.")
    properties = (properties,) if isinstance(properties, str) else tuple(properties)
    if target is not None:
        _check_target(target)
    if client is not None:
        from napari_blockbuster.execution.cluster import check_client

        check_client(client)
    source: ImageSource | None = None
    names: tuple[str, ...] = ()
    if image is not None:
        part: dict[str, Any] = {"level": level, "axes": axes, "scene": scene, "spacing": spacing}
        source = _opened(image, channel, part)
        names = measured_channels(image, source, None, part)[0].names
        if labels_axes is None and isinstance(labels, np.ndarray) and labels.ndim == source.ndim:
            labels_axes = "".join(source.axes)
    of_labels = open_image(labels, level=labels_level, axes=labels_axes)
    check_properties(properties, of_labels.ndim - of_labels.separate_axes, source is not None)
    with Progress(enabled=progress) as bar:
        table = measure_label_image(
            of_labels,
            source,
            names=names,
            properties=properties,
            functions=functions,
            client=client,
            resume=None if target is None else beside(target, ".measuring"),
            progress=bar.advance_to("measuring"),
        )
    if target is not None:
        with writing_to(target.parent):
            save_table(table, target)
    return table


def _check_target(target: Path) -> None:
    """Refuse a place where no table can be written, before anything is measured."""
    if target.is_dir():
        raise IsADirectoryError(
            f"The table {target} is a folder. Give the name of a file, such as {target.name}.parquet."
        )
    folder = target.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} of the table does not exist. Create it, or choose another place.")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"The folder {folder} of the table is not writable. Choose another place.")


def _opened(image: Any, channel: int | str | Sequence[int | str] | None, part: dict[str, Any]) -> ImageSource:
    if isinstance(image, ImageSource):
        return image
    if channel is not None:
        chosen = [channel] if isinstance(channel, int | np.integer | str) else list(channel)
        return open_image(image, channel=chosen, **part)
    every, _ = open_all_channels(image, **part)
    return every[0] if len(every) == 1 else ChannelsSource(every, [each.layout.channel for each in every])
