"""Measure where the labels of staged tiles lie: how many of their voxels are in a region of interest, and their places.

Like the search for regions of background, it runs here or on a cluster, and reads each tile once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.execution.work import Work
from napari_blockbuster.geometry.roi import Coverage, Roi
from napari_blockbuster.machine.disk import damage_named
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.stage.store import StageStore
from napari_blockbuster.stage.sums.label_sums import place_rows
from napari_blockbuster.stage.tables.sum_table import SumTable

from .inside import keep_objects, object_centroids, tiles_to_read

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["InsideSearch", "PlacesWork"]

SLAB = 2**22
"""Voxels that are measured at a time."""


class Places(NamedTuple):
    """Where the labels of a tile lie.

    Attributes
    ----------
    tile : int
    inside : numpy.ndarray
        int64, voxels of each label inside the region.
    sums : numpy.ndarray
        float64 of shape (labels, axes), the sum of the places of the voxels of each label.
    """

    tile: int
    inside: np.ndarray
    sums: np.ndarray


@dataclass
class PlacesWork(Work[Places]):
    """Measure where the labels of a tile lie."""

    store: StageStore
    roi: Roi

    @property
    def folder(self) -> Path:
        """Folder that workers must be able to read."""
        return self.store.folder

    def ahead(self, item: int) -> Any:
        return self.store.read_labels(self.store.grid[item])

    def ship(self, item: int) -> None:
        return None

    def __call__(self, item: int, payload: Any) -> Callable[[], Places]:
        core = self.store.grid[item].core
        with damage_named(self.store.folder.parent):
            labels: np.ndarray = (payload or self.ahead(item)).result()
            n = self.store.record(item).n_objects
        mask = self.roi.mask(core)
        inside, sums = np.zeros(n + 1, np.int64), np.zeros((n + 1, labels.ndim))
        planes = max(SLAB // max(labels[0].size, 1), 1)
        for first in range(0, len(labels), planes):
            slab = labels[first : first + planes]
            places = np.nonzero(slab)
            ids = slab[places]
            inside += np.bincount(ids[mask[first : first + planes][places]], minlength=n + 1)
            for axis, place in enumerate(places):
                start = core.start[axis] + (first if axis == 0 else 0)
                sums[:, axis] += np.bincount(ids, weights=place + start, minlength=n + 1)
        result = Places(item, inside[1:], sums[1:])
        return lambda: result

    def lost(self, item: int, error: BaseException) -> Places:
        raise error


class InsideSearch:
    """Finds the objects that lie in a region. What was measured of a tile is kept in memory.

    Parameters
    ----------
    store : StageStore
    roi : Roi
    inside : {"centroid", "touching", "clip"}
    coverage : numpy.ndarray
        `Coverage` of each tile.
    """

    def __init__(self, store: StageStore, roi: Roi, inside: str, coverage: np.ndarray) -> None:
        self._store, self._roi, self._inside, self._coverage = store, roi, inside, coverage
        self._known: dict[int, Places] = {}

    def forget(self, tiles: Iterable[int]) -> None:
        """Measure these tiles again, because they were segmented again."""
        for index in tiles:
            self._known.pop(index, None)

    def applied(self, merged: Merge, table: SumTable | None = None, client: Client | None = None) -> Merge:
        """Return the merge with only the objects that lie in the region.

        Parameters
        ----------
        merged : Merge
        table : SumTable, optional
            The sums of the same labels, from which centroids follow without reading a voxel.
        client : distributed.Client, optional
        """
        if (
            self._inside == "centroid"
            and table is not None
            and np.array_equal(table.counts, merged.labels_table.counts)
        ):
            return keep_objects(merged, self._central(merged, _sums_of(table)))
        wanted = [i for i in tiles_to_read(merged, self._coverage, self._inside).tolist() if i not in self._known]
        with contextlib.closing(run(PlacesWork(self._store, self._roi), TileQueue(wanted), client)) as results:
            for places in results:
                if places is not None:
                    self._known[places.tile] = places
        if self._inside == "centroid":
            return keep_objects(merged, self._central(merged, self._measured(merged)))
        kept = self._touching(merged)
        return keep_objects(merged, kept, self._roi if self._inside == "clip" else None)

    def _touching(self, merged: Merge) -> np.ndarray:
        """Whether any voxel of each object is inside."""
        table = merged.labels_table
        tiles = np.repeat(np.arange(len(table.counts)), table.counts)
        touches = self._coverage[tiles] == Coverage.ALL
        for index in np.flatnonzero((table.counts > 0) & (self._coverage == Coverage.SOME)).tolist():
            touches[table.offsets[index] : table.offsets[index + 1]] = self._known[index].inside > 0
        kept = np.zeros(int(merged.new_ids.max(initial=0)) + 1, bool)
        kept[merged.new_ids[1:][touches]] = True
        return kept

    def _measured(self, merged: Merge) -> np.ndarray:
        """For each label, the sum of the places of its voxels; NaN for those that are not needed."""
        table = merged.labels_table
        sums = np.full((merged.n_labels, self._store.grid.ndim), np.nan)
        for index in tiles_to_read(merged, self._coverage, self._inside).tolist():
            sums[table.offsets[index] : table.offsets[index + 1]] = self._known[index].sums
        return sums

    def _central(self, merged: Merge, sums: np.ndarray) -> np.ndarray:
        """Whether the centroid of each object is inside."""
        centroids = object_centroids(merged, sums)
        kept = np.zeros(len(centroids), bool)
        kept[merged.new_ids[1:]] = True
        # Objects without a measured centroid have a single label, in a tile that lies inside.
        known = np.flatnonzero(~np.isnan(centroids).any(axis=1))
        voxels = np.floor(centroids[known] + 0.5).astype(np.int64)
        kept[known] = self._roi.holds(np.clip(voxels, 0, np.array(self._store.grid.shape) - 1))
        return kept


def _sums_of(table: SumTable) -> np.ndarray:
    """For each label, the sum of the places of its voxels, in voxels of the image."""
    place = table.sums.place
    sums = table.origins.astype(np.float64) * place[0]
    sums[table.grid.separate_axes :] += place[place_rows(table.ndim).first]
    return np.asarray(sums.T)
