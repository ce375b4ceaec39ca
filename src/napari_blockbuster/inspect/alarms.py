"""Find alarms: merged objects that look wrong, each with its position and a reason as text.

A pair of labels may look right although their object is wrong. Alarms therefore examine objects. An object may have grown
far beyond its neighbors, or beyond what a tile saw of it (`over_merging`), or it may have lost a part that a tile saw beyond
its own border (`under_merging`). All of this comes from tables. Bands are read only to locate a lost part.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.stage.store import StageStore

from .alarm import Alarm
from .merged_table import MergedTable
from .over_merging import over_alarms
from .under_merging import under_alarms

__all__ = ["find_alarms"]


def find_alarms(
    merged: Merge,
    grid: TileGrid,
    store: StageStore | None = None,
    *,
    staged: Iterable[int] | None = None,
    limit: int = 1000,
) -> list[Alarm]:
    """Return the alarms of a merge, most severe first.

    Parameters
    ----------
    merged : Merge
        If it is filtered, removed labels count as background.
    grid : TileGrid
    store : StageStore, optional
        If given, bands are read to locate lost parts. Without a halo, the bands of all tiles are read, because only they
        show an object that ends at a seam with nothing behind it. Without a store, no file is read.
    staged : iterable of int, optional
        Staged tiles. Default: those of the store, or all. An object that continues in a tile that is not staged (yet)
        has lost nothing.
    limit : int, default 1000
        Largest number of alarms for over-merging, and for under-merging.

    Returns
    -------
    list of Alarm
    """
    if not merged.n_objects:
        return []
    is_staged = np.zeros(len(grid), bool)
    tiles = store.indices("tiles") if staged is None and store is not None else staged
    is_staged[slice(None) if tiles is None else list(tiles)] = True
    table = MergedTable(merged, grid)
    found = over_alarms(table, limit) + under_alarms(table, is_staged, store, limit)
    return sorted(found, key=lambda alarm: -alarm.severity)
