"""Write rows of a table as CSV or Parquet. No Qt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_blockbuster.output.tables.parquet import save_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SUFFIXES", "export_rows"]

SUFFIXES = (".csv", ".parquet")


def export_rows(frame: pd.DataFrame, rows: np.ndarray, file: Path) -> int:
    """Write rows of a table, and return their number. The file is complete, or it is not there.

    Parameters
    ----------
    frame : pandas.DataFrame
    rows : numpy.ndarray
        Rows, in their order.
    file : Path
        CSV, or Parquet if its name ends in ``.parquet``. An existing file is replaced.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    chosen = frame.iloc[rows]
    save_table(chosen, file)
    return len(chosen)
