"""The merge of a job: which labels are one object, which objects are kept, and their table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from napari_blockbuster.job.folder.job_folder import naming_deletion
from napari_blockbuster.job.state.job_state import JobState
from napari_blockbuster.job.steps.object_table import chosen_by, table_of
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.merge.selection import apply_filter
from napari_blockbuster.output.result import StagedMerge

from .steps import sequence as steps

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

__all__ = ["StagedJob"]


class StagedJob(JobState):
    """A job as far as its staged tiles go: merge them, filter the objects, and list them."""

    def merge(
        self,
        rule: str = "overlap",
        min_iou: float | None = None,
        connectivity: int = 1,
        cut: Iterable[PairOfLabels] = (),
        join: Iterable[PairOfLabels] = (),
        *,
        remove: Iterable[tuple[int, int]] = (),
        sequential_labels: bool = True,
        filter: ObjectFilter | None = None,
        client: Client | None = None,
    ) -> StagedMerge:
        """Decide which labels are one object, among the tiles staged so far. Voxels are read only to fill holes.

        Parameters
        ----------
        rule, min_iou, connectivity, cut, join, remove
            See `napari_blockbuster.merge.numbering.merge_labels`.
        sequential_labels : bool, default True
            Number the objects 1..n.
        filter : ObjectFilter, optional
            Which merged objects are kept, and whether their holes are filled. Default: all, as they are.
        client : distributed.Client, optional
            Compares pairs of tiles that are still without evidence, and finds holes.
        """
        options = {
            "rule": rule,
            "min_iou": min_iou,
            "connectivity": connectivity,
            "cut": cut,
            "join": join,
            "remove": remove,
        }
        merged = steps.merge(self.files, self.tiles, client, **options, sequential=sequential_labels)
        return merged if filter is None else self.filtered(merged, filter, client)

    def filtered(
        self,
        merged: StagedMerge,
        filter: ObjectFilter,
        client: Client | Callable[[], Client] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> StagedMerge:
        """Apply a filter to a merge; `merged` stays as it is.

        The first time that holes are filled, every staged tile is read once, on the cluster if there is one. The regions found
        are kept next to the stage and in memory: after that, no merge of these tiles reads a voxel. `cancel` stops it.

        Parameters
        ----------
        merged : StagedMerge
            From `merge`, without a filter.
        filter : ObjectFilter
        client : distributed.Client, or a function that makes one, optional
            The function is called only if tiles have to be read.
        progress : callable, optional
            ``progress(done, total)`` in tiles, each of which is read twice.

        Raises
        ------
        ValueError
            If `merged` has holes filled already, tiles were staged since it was made, or the table has no column of a range.
        JobError
            If a tile is damaged, or the search was canceled (`RegionSearchCanceled`).
        """
        chosen = chosen_by(self.files, self.tiles, self.spec, merged, filter)
        if not filter.fill_holes:
            return apply_filter(merged, filter, chosen=chosen)
        self._control.canceled.clear()
        with naming_deletion(self.files):
            return apply_filter(merged, filter, self.tiles.regions(client, self._control.canceled, progress), chosen)

    def table(self, merged: Merge, *, alarms: bool = False) -> pd.DataFrame:
        """Return one row for each object of a merge: size, place, shape, intensities and seams. No voxel is read.

        The sums of the labels are read from the tiles the first time, and kept in memory. Another merge only adds them up anew.

        Parameters
        ----------
        merged : Merge
            From `merge` or `filtered`.
        alarms : bool, default False
            Add a column with the number of alarms of each object; see `napari_blockbuster.inspect.alarms.find_alarms`.

        Returns
        -------
        pandas.DataFrame
            See `napari_blockbuster.measure.table.object_table`.

        Raises
        ------
        JobError
            If the tiles were deleted, or an earlier version staged them without sums.
        ValueError
            If tiles were staged since the merge, or if it has filled holes or cuts objects at the edge of a region.
        """
        return table_of(self.files, self.tiles, self.spec, merged, alarms=alarms)
