"""The table of a result on disk: Parquet beside the labels, CSV on request, and an AnnData table in the OME-Zarr.

All of them are written to the part of a result (`napari_blockbuster.output.place`) and put in place with its labels.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_blockbuster.machine.files import named_after
from napari_blockbuster.machine.system import replace
from napari_blockbuster.output.tables.parquet import CSV, PARQUET, read_parquet, token_of_table

from .label_image import labels_info
from .result import JOB_SUFFIX, job_folder

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLE_SUFFIXES", "check_table_files", "has_csv", "place_table", "read_table", "table_file"]

TABLE_SUFFIXES = (PARQUET, CSV)


def table_file(output: Path, suffix: str = PARQUET) -> Path:
    """Return the file of the table of some labels: ``<output>.table.parquet``, next to the job folder. Long names are cut."""
    folder = job_folder(output)
    return named_after(folder.with_name(folder.name.removesuffix(JOB_SUFFIX)), suffix)


def check_table_files(output: Path, overwrite: bool, csv: bool = False) -> None:
    """Refuse to replace a file that is not a table of such labels.

    Raises
    ------
    FileExistsError
        If there is one and `overwrite` is false.
    """
    if overwrite:
        return
    parquet, text = (table_file(output, suffix) for suffix in TABLE_SUFFIXES)
    if os.path.lexists(parquet) and token_of_table(parquet) is None:
        raise FileExistsError(
            f"The table would be written to {parquet}, which exists and is not a table of napari-blockbuster. "
            "Move it away, or pass overwrite=True (--overwrite) to replace it."
        )
    if csv and os.path.lexists(text) and token_of_table(parquet) is None:
        raise FileExistsError(f"The table {text} exists. Move it away, or pass overwrite=True (--overwrite).")


def has_csv(output: Path) -> bool:
    """Whether there is a CSV beside a table of some labels. It is kept up to date with them."""
    return table_file(output, CSV).exists() and token_of_table(table_file(output)) is not None


def place_table(part: Path, output: Path) -> None:
    """Move the files of a table from the part of a result to their places. A table of an earlier result goes."""
    for suffix in TABLE_SUFFIXES:
        new, final = part / f"table{suffix}", table_file(output, suffix)
        if new.exists():
            replace(new, final)
        elif suffix == PARQUET and token_of_table(final) is not None:
            with contextlib.suppress(FileNotFoundError):
                os.rename(final, part / f"old{suffix}")


def read_table(output: str | Path) -> pd.DataFrame:
    """Read the table of some labels: one row for each object.

    Parameters
    ----------
    output : path
        The OME-Zarr of the labels.

    Raises
    ------
    FileNotFoundError
        If there is no table beside the labels, or if it is the table of other labels.
    """
    return read_parquet(table_file(Path(output).absolute()), labels_info(output)["provenance"].get("result"))
