"""The table of the merged objects of a job."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_blockbuster.images import ChannelsSource, ImageSource, open_image
from napari_blockbuster.job.folder.job_folder import JobFolder, naming_deletion
from napari_blockbuster.job.folder.settings import JobSpec
from napari_blockbuster.job.state.tiles import Tiles
from napari_blockbuster.measure.label_image import measure_label_image
from napari_blockbuster.measure.selection import check_columns, ids_in_ranges, known_columns
from napari_blockbuster.measure.space import Space
from napari_blockbuster.measure.table import OtherVoxelsError, object_table, seam_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from distributed import Client

    from napari_blockbuster.merge.assignment import Merge
    from napari_blockbuster.merge.filters import ObjectFilter

__all__ = ["check_ranges", "chosen_by", "measured_result", "table_of"]


def table_of(folder: JobFolder, tiles: Tiles, spec: JobSpec, merged: Merge, *, alarms: bool = False) -> pd.DataFrame:
    """Return one row for each object of a merge; see `napari_blockbuster.Job.table`."""
    folder.check_stage()
    with naming_deletion(folder):
        sums = tiles.sums()
        found = None
        if alarms:
            found = Counter(label for alarm in tiles.alarms(merged) for label in set(alarm.objects))
        space = Space.of_image(spec.image, tiles.grid.separate_axes)
        return object_table(merged, sums, space, channels=spec.measured.names, alarms=found)


def chosen_by(folder: JobFolder, tiles: Tiles, spec: JobSpec, merged: Merge, keep: ObjectFilter) -> np.ndarray | None:
    """Return the ids of the objects in the ranges of a filter; None if it has no ranges.

    Objects that are cut at the edge of a region are judged as a whole, as their sizes are.
    """
    if not keep.ranges:
        return None
    whole = replace(merged, clip=None)
    table = table_of(folder, tiles, spec, whole, alarms="alarms" in keep.ranges)
    return ids_in_ranges(table, dict(keep.ranges))


def check_ranges(spec: JobSpec, keep: ObjectFilter | None) -> None:
    """Refuse ranges of columns that the table of a job will not have, before the first tile.

    Raises
    ------
    ValueError
    """
    if keep is None or not keep.ranges:
        return
    grid = spec.grid.grid()
    space = Space.of_image(spec.image, grid.separate_axes)
    check_columns(keep.ranges, [*known_columns(grid, space, spec.measured.names), "alarms"])


def measured_result(
    labels: Path,
    tiles: Tiles,
    spec: JobSpec,
    merged: Merge,
    sources: tuple[ImageSource | None, ImageSource | None],
    client: Client | None,
) -> pd.DataFrame:
    """Measure labels that are written, because their voxels differ from those that the tiles summed.

    Holes are filled, or objects are cut at the edge of a region of interest.

    Parameters
    ----------
    labels : Path
        The OME-Zarr.
    sources : tuple of ImageSource or None
        The channels that the model saw, and other measured ones.

    Raises
    ------
    OtherVoxelsError
        If the image cannot be opened.
    """
    image, others = sources
    if image is None or (others is None and spec.measured.others is not None):
        what = (
            "The holes of objects are filled"
            if merged.filled is not None
            else "Objects are cut at the edge of a region"
        )
        raise OtherVoxelsError(
            f"{what}, and the image could not be opened to measure them as they are written. "
            "Measure the labels with measure_objects (napari-blockbuster measure)."
        )
    channels = [part for source in (image, others) if source is not None for part in _parts(source)]
    measured = image if others is None else ChannelsSource(channels, [part.layout.channel for part in channels])
    table = measure_label_image(open_image(labels), measured, names=spec.measured.names, client=client)
    space = Space.of_image(spec.image, tiles.grid.separate_axes)
    columns = known_columns(tiles.grid, space, spec.measured.names)
    return table.merge(seam_table(merged), on="label", how="left")[columns]


def _parts(source: ImageSource) -> list[ImageSource]:
    return list(source.parts) if isinstance(source, ChannelsSource) else [source]
