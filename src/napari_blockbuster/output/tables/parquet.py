"""Tables as Parquet and CSV. A Parquet file holds the token of the labels that it belongs to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_blockbuster.machine.files import beside
from napari_blockbuster.machine.system import replace
from napari_blockbuster.output.groups import KEY

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CSV", "PARQUET", "read_parquet", "save_table", "token_of_table", "write_table"]

PARQUET, CSV = ".table.parquet", ".table.csv"
_TOKEN = f"{KEY}.result".encode()
"""Entry in the metadata of a Parquet file: the token of its labels."""


def write_table(table: pd.DataFrame, part: Path, token: str, csv: bool = False) -> None:
    """Write a table to the part of a result.

    Parameters
    ----------
    table : pandas.DataFrame
    part : Path
        An existing folder.
    token : str
        Token of the result.
    csv : bool, default False
        Also write CSV.
    """
    import pyarrow as pa

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _TOKEN: token.encode()})
    for suffix in (PARQUET, CSV) if csv else (PARQUET,):
        _write(arrow, part / f"table{suffix}", as_parquet=suffix == PARQUET)


def save_table(table: pd.DataFrame, file: Path) -> None:
    """Write a table to a file of its own: Parquet if its name ends in ``.parquet``, else CSV. An existing file is replaced.

    Raises
    ------
    OSError
        If it cannot be written. An existing file stays then.
    """
    import pyarrow as pa

    part = beside(file, f".{os.urandom(4).hex()}.part")
    try:
        _write(pa.Table.from_pandas(table, preserve_index=False), part, as_parquet=file.suffix == ".parquet")
        replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def _write(arrow: Any, file: Path, as_parquet: bool) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    # An open file, because pyarrow takes no name that is not UTF-8.
    with open(file, "wb") as opened:
        if as_parquet:
            pyarrow.parquet.write_table(arrow, opened, compression="zstd")
        else:
            pyarrow.csv.write_csv(arrow, opened)


def token_of_table(path: Path) -> str | None:
    """Return the token of the result that a Parquet file belongs to; None for any other file, or none."""
    import pyarrow.parquet

    try:
        with open(path, "rb") as file:
            metadata = pyarrow.parquet.read_schema(file).metadata or {}
    except (OSError, ValueError):
        return None
    token = metadata.get(_TOKEN)
    return None if token is None else str(token.decode())


def read_parquet(path: Path, token: str | None) -> pd.DataFrame:
    """Read the table of some labels.

    Parameters
    ----------
    path : Path
    token : str or None
        Token of the labels.

    Raises
    ------
    FileNotFoundError
        If there is no table, or if it is the table of other labels.
    """
    import pandas as pd

    if token is None or token_of_table(path) != token:
        what = f"The table {path} belongs to other labels." if path.exists() else f"There is no table at {path}."
        raise FileNotFoundError(
            f"{what} Measure the labels with measure_objects(labels, image) (napari-blockbuster measure)."
        )
    with open(path, "rb") as file:
        found: pd.DataFrame = pd.read_parquet(file)
    return found
