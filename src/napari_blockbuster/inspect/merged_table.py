"""Table of merged objects: labels, objects and pairs of a merge as columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.merge.rules import band_iou, face_iou

__all__ = ["MergedTable", "near_missing"]


@dataclass(frozen=True)
class MergedTable:
    """Columns for the labels, objects and pairs of a merge. The merged id is the index of an object.

    Row 0 is background. It has no members and no size, although `ids` is 0 for labels that the filter removed.
    """

    merged: Merge
    grid: TileGrid

    @property
    def n_space(self) -> int:
        return self.grid.ndim - self.grid.separate_axes

    # ---------------------------------------------------------------- labels
    @cached_property
    def written(self) -> np.ndarray:
        """Merged id with which each label is written; 0 if it was removed."""
        return self.merged.new_ids[1:].astype(np.int64)

    @cached_property
    def ids(self) -> np.ndarray:
        """Object that each label was joined to; 0 if it was removed, even if it now fills a hole of another object."""
        filled = self.merged.filled
        return self.written if filled is None else np.where(filled.absorbed, 0, self.written)

    @cached_property
    def tiles(self) -> np.ndarray:
        """Tile of each label."""
        counts = self.merged.labels_table.counts
        return np.repeat(np.arange(len(counts)), counts)

    @cached_property
    def core(self) -> np.ndarray:
        """Voxels of each label inside the core of its tile, which are written."""
        return self.merged.labels_table.objects["core"].astype(np.float64)

    @cached_property
    def read(self) -> np.ndarray:
        """Voxels of each label in the read box of its tile."""
        return self.merged.labels_table.objects["read"].astype(np.float64)

    @cached_property
    def _by_owner(self) -> tuple[np.ndarray, np.ndarray]:
        order = self.pieces[np.argsort(self.ids[self.pieces], kind="stable")]
        return order, self.ids[order]

    def pieces_of(self, owner: int) -> np.ndarray:
        """Labels of one object that has several."""
        order, owners = self._by_owner
        start, stop = np.searchsorted(owners, [owner, owner + 1])
        return order[start:stop]

    def label(self, number: int) -> tuple[int, int]:
        """(tile, id) of a label, given its number in all tiles, from 0."""
        tile = int(self.tiles[number])
        return tile, int(number - self.merged.labels_table.offsets[tile]) + 1

    # --------------------------------------------------------------- objects
    @cached_property
    def n_rows(self) -> int:
        return int(self.ids.max(initial=0)) + 1

    @cached_property
    def members(self) -> np.ndarray:
        """Number of labels of each object."""
        return self._without_background(np.bincount(self.ids, minlength=self.n_rows))

    @cached_property
    def size(self) -> np.ndarray:
        """Voxels of each object, without filled holes, to compare with what tiles saw."""
        return self._without_background(np.bincount(self.ids, weights=self.core, minlength=self.n_rows))

    @staticmethod
    def _without_background(column: np.ndarray) -> np.ndarray:
        column[0] = 0
        return column

    @cached_property
    def pieces(self) -> np.ndarray:
        """Labels that were joined with other labels."""
        return np.flatnonzero(self.members[self.ids] > 1)

    @cached_property
    def witness(self) -> np.ndarray:
        """For each object, the label with the most voxels; -1 without labels."""
        best = np.full(self.n_rows, -1)
        best[self.ids] = np.arange(len(self.ids))
        order = self.pieces[np.argsort(self.read[self.pieces], kind="stable")]
        # The order is ascending, so the largest remains.
        best[self.ids[order]] = order
        best[0] = -1
        return best

    @cached_property
    def typical(self) -> np.ndarray:
        """Typical size around each object, or that of all tiles if its tile has none."""
        labels = self.merged.labels_table
        # Debris that the filter removed must not affect the typical size.
        of_tile = labels.typical_of(self.ids > 0) if self.merged.n_removed else labels.typical_size
        known = of_tile[of_tile > 0]
        if len(known) < len(of_tile):
            fallback = float(np.median(known if len(known) else self.size[self.members > 0]))
            of_tile = np.where(of_tile > 0, of_tile, fallback)
        found: np.ndarray = of_tile[self.tiles[self.witness]]
        return found

    # ----------------------------------------------------------------- pairs
    @cached_property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """The two labels of each row of the evidence, numbered through all tiles from 0."""
        seams, labels = self.merged.seams, self.merged.labels_table
        return labels.numbers(seams["low"], seams["low_id"]), labels.numbers(seams["high"], seams["high_id"])

    @cached_property
    def shown(self) -> np.ndarray:
        """Whether both labels of each row of the evidence are written."""
        low, high = self.ends
        return np.asarray((self.written[low] > 0) & (self.written[high] > 0))

    @cached_property
    def strength(self) -> np.ndarray:
        """Agreement of the labels of each row, for any rule: in the band or, without a band, on the faces."""
        seams = self.merged.seams
        has_band = (seams["low_band"] > 0) | (seams["high_band"] > 0)
        return np.where(has_band, band_iou(seams), face_iou(seams))

    def pair(self, row: int) -> PairOfLabels:
        """Labels of a row of the evidence."""
        seam = self.merged.seams[row]
        return (int(seam["low"]), int(seam["low_id"])), (int(seam["high"]), int(seam["high_id"]))

    def place(self, row: int) -> tuple[float, ...]:
        """Position of a row of the evidence."""
        return tuple(float(x) for x in self.merged.seams["position"][row])

    def center(self, tile: int) -> tuple[float, ...]:
        """Center of a tile's core."""
        core = self.grid[tile].core
        return tuple((a + b - 1) / 2 for a, b in zip(core.start, core.stop, strict=True))


def near_missing(grid: TileGrid, is_staged: np.ndarray) -> np.ndarray:
    """Return whether each tile touches a tile that is not staged: skipped, failed, or not segmented yet."""
    from scipy import ndimage

    spatial = [1 if axis < grid.separate_axes else 3 for axis in range(grid.ndim)]
    near = ndimage.maximum_filter((~is_staged).reshape(grid.grid_shape), size=spatial)
    return np.asarray(near).reshape(-1)
