"""Compute evidence that is missing or damaged again, and name other damage with its remedy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .execution import TileQueue, run
from .files import read_table
from .seams import evidence_dtype, gather_evidence, in_order, missing_pairs
from .spec import JobError
from .stage import StageStore
from .trouble import errno_of
from .work import CompareWork

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Evidence", "complete_evidence", "damage_named", "drop_damaged_evidence"]


class Evidence(NamedTuple):
    """The evidence between all staged tiles, and whether all of it is on disk."""

    table: np.ndarray
    is_on_disk: bool


def complete_evidence(
    store: StageStore, staged: frozenset[int], client: Client | None, *, keep: bool = False
) -> Evidence:
    """The evidence of all pairs of staged tiles. Pairs without any, as their run was cut short, are compared now.

    Parameters
    ----------
    store : StageStore
    staged : frozenset of int
    client : distributed.Client or None
    keep : bool, default False
        Write what was missing, and delete damaged files: only with the job's lock.
    """
    damaged: list[int] = []
    try:
        table = gather_evidence(store, staged)
    except (ValueError, IndexError):
        damaged = drop_damaged_evidence(store, keep=not keep)
        table = gather_evidence(store, staged, without=damaged)
    pairs = missing_pairs(store, table, set(staged))
    if not pairs:
        return Evidence(table, keep or not damaged)
    compared = [
        found for found in run(CompareWork(store, pairs, keep), TileQueue(sorted(pairs)), client) if found is not None
    ]
    return Evidence(in_order(np.concatenate([table, *compared])), keep)


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


@contextlib.contextmanager
def damage_named(folder: Path) -> Iterator[None]:
    """Say what to do where a staged tile turns out to be damaged.

    Raises
    ------
    JobError
        Instead of what reading the tile raised.
    """
    try:
        yield
    except JobError:
        raise
    except FileNotFoundError as error:
        raise _damaged(folder, f"{error.filename} is missing") from error
    except (ValueError, IndexError) as error:
        if errno_of(error) is not None:
            raise
        raise _damaged(folder, (str(error).splitlines() or [""])[0][:300]) from error


def _damaged(folder: Path, what: str) -> JobError:
    return JobError(
        f"a staged tile of {folder} is damaged ({what}); find and un-stage such tiles with "
        f"`napari-blockbuster info --check --repair {folder}`, then resume"
    )
