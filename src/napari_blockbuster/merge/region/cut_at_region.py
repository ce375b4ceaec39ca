"""Labels that continue in a tile that is skipped because no part of the region of interest lies in it.

Their objects end at the border of the last tile. The halo of that tile shows that they continue.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np

from napari_blockbuster.geometry.roi import Coverage
from napari_blockbuster.stage.store import StageStore

__all__ = ["LabelsCutAtRegion"]


@dataclass
class LabelsCutAtRegion:
    """Finds these labels in the stored bands. What was read of a tile is kept in memory.

    Attributes
    ----------
    store : StageStore
    coverage : numpy.ndarray
        `Coverage` of each tile by the region.
    """

    store: StageStore
    coverage: np.ndarray
    _known: dict[tuple[int, int, str], np.ndarray] = field(default_factory=dict)

    def forget(self, tiles: Collection[int]) -> None:
        """Read these tiles again, because they were segmented again."""
        for key in [key for key in self._known if key[0] in tiles]:
            del self._known[key]

    def find(self, counts: np.ndarray, staged: Collection[int]) -> np.ndarray:
        """Return which labels continue in a skipped tile: bool, one entry per label of all tiles.

        Parameters
        ----------
        counts : numpy.ndarray
            Number of labels of each tile.
        staged : collection of int
        """
        offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        found = np.zeros(int(offsets[-1]), bool)
        for tile in np.flatnonzero(counts).tolist():
            for axis, side in self._open_faces(tile, staged):
                ids = self._continuing(tile, axis, side)
                found[offsets[tile] + ids[ids <= counts[tile]] - 1] = True
        return found

    def _open_faces(self, tile: int, staged: Collection[int]) -> Iterable[tuple[int, str]]:
        grid = self.store.grid
        for axis, side in grid.band_keys:
            step = 1 if side == "low" else -1
            other = grid.neighbor(tile, [step if a == axis else 0 for a in range(grid.ndim)])
            if other is not None and self.coverage[other] == Coverage.NONE and other not in staged:
                yield axis, side

    def _continuing(self, index: int, axis: int, side: str) -> np.ndarray:
        """Return the labels of a tile on the other side of a face; without a halo, those at the face."""
        key = index, axis, side
        if key not in self._known:
            grid = self.store.grid
            band, core = self.store.read_band(index, axis, side), grid[index].core
            box = grid.band(grid[index], axis, side)
            assert box is not None
            if grid.depth(axis):
                beyond = slice(core.stop[axis] - box.start[axis], None)
                if side == "high":
                    beyond = slice(0, core.start[axis] - box.start[axis])
                band = band[(slice(None),) * axis + (beyond,)]
            ids = np.unique(band)
            self._known[key] = ids[ids > 0].astype(np.int64)
        return self._known[key]
