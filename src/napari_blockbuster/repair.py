"""Recompute evidence that is missing or damaged from the bands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .execution import TileQueue, run
from .files import read_table
from .seams import evidence_dtype, gather_evidence, missing_pairs
from .stage import StageStore
from .trouble import damage_named, writing_to
from .work import CompareWork

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["complete_evidence", "damage_named", "drop_damaged_evidence"]


def complete_evidence(store: StageStore, staged: frozenset[int], client: Client | None) -> np.ndarray:
    """The evidence of all pairs of staged tiles; what no worker compared, as its run was cut short, is compared now."""
    table = _gathered(store, staged)
    pairs = missing_pairs(store, table, set(staged))
    if pairs:
        for _ in run(CompareWork(store, pairs), TileQueue(sorted(pairs)), client):
            pass
        table = _gathered(store, staged)
    return table


def _gathered(store: StageStore, staged: frozenset[int]) -> np.ndarray:
    """The evidence on disk, without what is damaged."""
    with damage_named(store.folder.parent):
        try:
            return gather_evidence(store, staged)
        except (ValueError, IndexError):
            with writing_to(store.folder):
                drop_damaged_evidence(store)
            return gather_evidence(store, staged)


def drop_damaged_evidence(store: StageStore, *, keep: bool = False) -> list[int]:
    """Delete (or keep) evidence that cannot be read or names tiles that there are not; returns the tiles that had it.

    It is not synchronised with the disk as it is written, so that a loss of power may cut it short: bands bring it
    back.
    """
    dropped = []
    for index in sorted(store.indices("seams")):
        path = store.path("seams", index, "npy")
        try:
            table = read_table(path, evidence_dtype(store.grid.ndim))
            sound = not len(table) or max(table["low"].max(), table["high"].max()) < len(store.grid)
        except ValueError:
            sound = False
        if not sound:
            if not keep:
                path.unlink()
            dropped.append(index)
    return dropped
