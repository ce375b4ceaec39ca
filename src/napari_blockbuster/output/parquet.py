"""Tables as Parquet and CSV. A Parquet file holds the token of the labels that it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .groups import KEY

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CSV", "PARQUET", "read_parquet", "token_of_table", "write_table"]

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
    import pyarrow.csv
    import pyarrow.parquet

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _TOKEN: token.encode()})
    pyarrow.parquet.write_table(arrow, part / f"table{PARQUET}", compression="zstd")
    if csv:
        pyarrow.csv.write_csv(arrow, part / f"table{CSV}")


def token_of_table(path: Path) -> str | None:
    """Return the token of the result that a Parquet file belongs to; None for any other file, or none."""
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
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
    found: pd.DataFrame = pd.read_parquet(path)
    return found
