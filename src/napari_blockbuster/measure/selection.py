"""Select objects by ranges of columns of their table."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.merge.column_ranges import Ranges
from napari_blockbuster.merge.numbering import merge_labels
from napari_blockbuster.stage.seams.comparison import evidence_dtype
from napari_blockbuster.stage.sums.label_sums import TileSums
from napari_blockbuster.stage.tables.label_table import LabelTable
from napari_blockbuster.stage.tables.sum_table import SumTable

from .space import Space
from .table import object_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_columns", "ids_in_ranges", "known_columns"]


def ids_in_ranges(table: pd.DataFrame, ranges: Ranges) -> np.ndarray:
    """Return the ids of the objects whose values lie in all ranges, limits included. A missing value lies in none.

    Raises
    ------
    ValueError
        If the table has no such column.
    """
    check_columns(ranges, list(table.columns))
    kept = np.ones(len(table), bool)
    for name, (low, high) in ranges.items():
        values = table[name].to_numpy().astype(np.float64, copy=False)
        kept &= ~np.isnan(values)
        if low is not None:
            kept &= values >= low
        if high is not None:
            kept &= values <= high
    ids: np.ndarray = table["label"].to_numpy()[kept]
    return ids


def check_columns(names: Iterable[str], known: Sequence[str]) -> None:
    """Refuse columns that a table does not have.

    Raises
    ------
    ValueError
        The message names similar columns.
    """
    for name in names:
        if name not in known:
            similar = difflib.get_close_matches(name, known, 3, 0.4) or list(known)[:3]
            raise ValueError(
                f"The table of objects has no column {name!r}. Similar columns: {', '.join(similar)}. "
                f"It has {len(known)} columns, see docs/table.md."
            )


def known_columns(grid: TileGrid, space: Space | None, channels: Sequence[str]) -> list[str]:
    """Return the columns of the table of an image, before any of its tiles is staged."""
    none = np.zeros(len(grid), np.int64)
    ndim = grid.ndim - grid.separate_axes
    sums = SumTable(grid, none, TileSums.empty(ndim, len(channels)), none)
    merged = merge_labels(np.zeros(0, evidence_dtype(grid.ndim)), LabelTable.of_counts(none), rule="none")
    return [str(name) for name in object_table(merged, sums, space, channels=channels).columns]
