"""The table of the merged objects of a job."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from napari_blockbuster.job.folder.job_folder import JobFolder, naming_deletion
from napari_blockbuster.job.folder.settings import JobSpec
from napari_blockbuster.job.state.tiles import Tiles
from napari_blockbuster.measure.space import Space
from napari_blockbuster.measure.table import object_table

if TYPE_CHECKING:
    import pandas as pd

    from napari_blockbuster.merge.assignment import Merge

__all__ = ["table_of"]


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
