"""Recompute evidence that is missing or damaged from the bands."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.execution.run import run
from napari_blockbuster.machine.disk import damage_named, writing_to
from napari_blockbuster.machine.files import read_table
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.stage.seams.evidence import evidence_dtype, gather_evidence, in_order, missing_pairs

from .store import StageStore
from .work import CompareWork

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Evidence", "complete_evidence", "drop_damaged_evidence"]


class Evidence(NamedTuple):
    """Evidence between all staged tiles, and whether all of it is on disk."""

    table: np.ndarray
    is_on_disk: bool


def complete_evidence(
    store: StageStore, counts: np.ndarray, client: Client | None, *, keep: Owner | None = None
) -> Evidence:
    """Return the evidence of all pairs of staged tiles. Compare pairs without evidence, whose run was interrupted.

    Parameters
    ----------
    store : StageStore
    counts : numpy.ndarray
        The number of labels of each tile; 0 for tiles that are not staged.
    client : distributed.Client or None
    keep : Owner, optional
        Write missing evidence and delete damaged files.
    """
    table, damaged = _gathered(store, np.flatnonzero(counts).tolist(), keep is not None)
    pairs = missing_pairs(store.grid, table, counts)
    if not pairs:
        return Evidence(table, keep is not None or not damaged)
    compared = [
        found for found in run(CompareWork(store, pairs, keep), TileQueue(sorted(pairs)), client) if found is not None
    ]
    return Evidence(in_order(np.concatenate([table, *compared])), keep is not None)


def _gathered(store: StageStore, staged: list[int], keep: bool) -> tuple[np.ndarray, list[int]]:
    """Return the evidence on disk without damaged files, and the tiles whose files are damaged."""
    with damage_named(store.folder.parent):
        try:
            return gather_evidence(store, staged), []
        except (ValueError, IndexError):
            with writing_to(store.folder):
                damaged = drop_damaged_evidence(store, keep=not keep)
            return gather_evidence(store, staged, without=damaged), damaged


def drop_damaged_evidence(store: StageStore, *, keep: bool = False) -> list[int]:
    """Delete (or keep) evidence that is unreadable or names tiles that do not exist. Return the tiles of these files.

    Evidence is written without synchronizing the disk, so that a power failure may truncate it. It is recomputed from the bands.
    """
    dropped = []
    for index, path in store.files("seams"):
        try:
            table = read_table(path, evidence_dtype(store.grid.ndim))
            sound = not len(table) or max(table["low"].max(), table["high"].max()) < len(store.grid)
        except ValueError:
            sound = False
        if not sound:
            if not keep:
                path.unlink(missing_ok=True)
            dropped.append(index)
    return dropped
