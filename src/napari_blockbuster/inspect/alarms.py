"""Alarms: merged objects that look wrong as a whole, each with its place and its reason in words.

A pair of labels may look sound while the object that it belongs to does not. What is asked here is about objects: has
one grown far beyond its neighbours, or beyond what a tile saw of it (`overmerging`); has one lost a part that a tile
saw beyond its own border (`undermerging`)? All of it comes from tables; bands are read to say where a part is lost.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.stage.store import StageStore

from .alarm import Alarm
from .merged_table import MergedTable

__all__ = ["find_alarms"]


def find_alarms(
    merged: Merge,
    grid: TileGrid,
    store: StageStore | None = None,
    *,
    staged: Iterable[int] | None = None,
    limit: int = 1000,
) -> list[Alarm]:
    """All alarms of a merge, the most severe first.

    Parameters
    ----------
    merged : Merge
        Of a filtered merge, what is left out is background: no object, and no part of one.
    grid : TileGrid
    store : StageStore, optional
        With it, bands of the tiles concerned are read to say where a lost part lies; without a halo those of all tiles,
        the only way to see an object that ends at a seam with nothing behind it. Without a store, no file is touched.
    staged : iterable of int, optional
        Tiles that are staged. Default: those of the store, or all. An object that goes on into a tile that is not
        staged (yet) has lost nothing.
    limit : int, default 1000
        At most so many of over-merging, and so many of under-merging.

    Returns
    -------
    list of Alarm
    """
    from .over_merging import over_alarms
    from .under_merging import under_alarms

    if not merged.n_objects:
        return []
    there = np.zeros(len(grid), bool)
    tiles = store.indices("tiles") if staged is None and store is not None else staged
    there[slice(None) if tiles is None else list(tiles)] = True
    table = MergedTable(merged, grid)
    found = over_alarms(table, limit) + under_alarms(table, there, store, limit)
    return sorted(found, key=lambda alarm: -alarm.severity)
