"""The table of a result as AnnData in an OME-Zarr, as ngio and SpatialData read it.

Labels of their own hold the table in their group. Labels inside an image have it in the ``tables`` group of the image::

    <labels>.ome.zarr/tables/objects
    <image>.ome.zarr/labels/<name>, <image>.ome.zarr/tables/<name>
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_blockbuster.output.groups import KEY, refresh_consolidated, update_attributes, utf8

from . import anndata_layout

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_image_table", "place_image_table", "write_anndata"]

INSTANCE_KEY, REGION_KEY = "label", "region"
OWN_NAME = "objects"


def tables_around(output: Path) -> Path | None:
    """Return the ``tables`` group of the image around some labels; None for labels of their own."""
    image = output.parent.parent
    inside = output.parent.name == "labels" and any((image / name).exists() for name in ("zarr.json", ".zgroup"))
    return image / "tables" if inside else None


def write_anndata(table: pd.DataFrame, tables: Path, output: Path, version: str, token: str) -> None:
    """Write a table into a ``tables`` group that is created for it.

    Parameters
    ----------
    table : pandas.DataFrame
        Its columns become the matrix X; the labels are in ``obs``.
    tables : Path
        The group; it must not exist.
    output : Path
        Where the labels will be.
    version : {"0.5", "0.4"}
        Of OME-Zarr.
    token : str
        Token of the result.
    """
    import zarr

    inside = tables_around(output) is not None
    name = utf8(output.name) if inside else OWN_NAME
    zarr_format: Literal[2, 3] = 3 if version == "0.5" else 2
    # Written in memory first: zarr takes five times as long to write these small files to a disk one by one.
    files: dict[str, Any] = {}
    store = zarr.storage.MemoryStore(files)
    group = zarr.open_group(store, mode="w-", zarr_format=zarr_format, attributes={"tables": [name]})
    anndata_layout.write_table(group, name, table, INSTANCE_KEY, REGION_KEY, utf8(output.name))
    for key, content in files.items():
        path = tables / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.to_bytes())
    region = f"../labels/{name}" if inside else ".."
    update_attributes(tables / name, _attributes(region, version) | {KEY: {"result": token}})


def _attributes(region: str, version: str) -> dict[str, Any]:
    """Return what ngio (type, index, path of the region) and SpatialData (encoding) look for in the group of a table."""
    return {
        "spatialdata-encoding-type": "ngff:regions_table",
        "version": {"0.5": "0.2", "0.4": "0.1"}[version],
        "type": "feature_table",
        "table_version": "1",
        "fractal_table_version": "1",
        "backend": "anndata",
        "index_key": INSTANCE_KEY,
        "index_type": "int",
        "instance_key": INSTANCE_KEY,
        "region": {"path": region},
        "region_key": REGION_KEY,
    }


# ----------------------------------------------------------------------------------------------- tables inside an image
def check_image_table(output: Path, overwrite: bool) -> None:
    """Refuse to replace a table in the image that is not a table of such labels.

    Raises
    ------
    FileExistsError
    """
    tables = tables_around(output)
    if overwrite or tables is None or not os.path.lexists(tables / output.name):
        return
    if KEY not in _attributes_of(tables / output.name):
        raise FileExistsError(
            f"The image has a table {tables / output.name}, which is not of napari-blockbuster. "
            "Choose another name for the labels, or pass overwrite=True (--overwrite) to replace the table."
        )


def place_image_table(part: Path, output: Path) -> None:
    """Move a table from the part of a result into the image around the labels, and list it there.

    Parameters
    ----------
    part : Path
        Holds the group ``tables``, if the result has a table.
    output : Path
        The labels in place.
    """
    import zarr

    tables, new = tables_around(output), part / "tables" / output.name
    if tables is None or not new.exists():
        return
    final = tables / output.name
    if not tables.exists():
        zarr_format: Literal[2, 3] = 3 if (output.parent.parent / "zarr.json").exists() else 2
        zarr.open_group(str(tables), mode="a", zarr_format=zarr_format)
    if os.path.lexists(final):
        os.rename(final, part / "table.old")
    os.rename(new, final)
    known = list(_attributes_of(tables).get("tables", []))
    if utf8(output.name) not in known:
        update_attributes(tables, {"tables": [*known, utf8(output.name)]})
    refresh_consolidated(final)


def _attributes_of(group: Path) -> dict[str, Any]:
    import zarr

    try:
        return dict(zarr.open_group(str(group), mode="r", use_consolidated=False).attrs.asdict())
    except (OSError, ValueError, KeyError):
        return {}
