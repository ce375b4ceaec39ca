"""The layout of AnnData in zarr, written without the library anndata.

Importing anndata takes seconds of processor time, more than all of a small run. The layout is specified at
https://anndata.readthedocs.io/en/stable/fileformat-prose.html. Each group and array has its type and version as attributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import zarr

__all__ = ["write_table"]

CHUNK = 2**20
"""Values in a chunk of the matrix, at most."""
EMPTY = ("obsm", "varm", "obsp", "varp", "layers")


def write_table(
    parent: zarr.Group, name: str, table: pd.DataFrame, instance_key: str, region_key: str, region: str
) -> None:
    """Write a table of objects as AnnData, with the attributes of a table of SpatialData in ``uns``.

    Parameters
    ----------
    parent : zarr.Group
        Of zarr version 2 or 3.
    name : str
        Of the group that is created.
    table : pandas.DataFrame
        Numbers and booleans. All columns but the labels become the matrix X, as float64.
    instance_key : str
        Column of the labels. It becomes a column of ``obs``, and its text the index.
    region_key : str
        Column of ``obs`` for the name of the label image.
    region : str
        Name of the label image.
    """
    root = _group(parent, name, "anndata", "0.1.0")
    features = [str(column) for column in table.columns if column != instance_key]
    _matrix(root, table[features])
    labels = table[instance_key].to_numpy()
    obs = _dataframe(root, "obs", labels.astype(str), [instance_key, region_key])
    _array(obs, instance_key, labels)
    categorical = _group(obs, region_key, "categorical", "0.2.0", ordered=False)
    _array(categorical, "codes", np.zeros(len(labels), np.int8))
    _strings(categorical, "categories", np.array([region]))
    _dataframe(root, "var", np.array(features, dtype=str), [])
    for key in EMPTY:
        _group(root, key, "dict", "0.1.0")
    attributes = _group(_group(root, "uns", "dict", "0.1.0"), "spatialdata_attrs", "dict", "0.1.0")
    for key, text in (("region", region), ("region_key", region_key), ("instance_key", instance_key)):
        _strings(attributes, key, np.array(text), kind="string")


def _group(parent: zarr.Group, name: str, kind: str, version: str, **attributes: Any) -> zarr.Group:
    return parent.create_group(name, attributes={**attributes, **_encoding(kind, version)})


def _dataframe(parent: zarr.Group, name: str, index: np.ndarray, columns: list[str]) -> zarr.Group:
    """Create a data frame with an index. The columns are left to the caller."""
    group = _group(parent, name, "dataframe", "0.2.0", **{"_index": "_index", "column-order": columns})
    _strings(group, "_index", index)
    return group


def _matrix(parent: zarr.Group, features: pd.DataFrame) -> None:
    """Write the matrix X, a few columns at a time. Values of one column compress better, and are often read alone."""
    rows, columns = features.shape
    in_chunk = min(max(rows, 1), CHUNK), min(max(columns, 1), max(1, CHUNK // max(rows, 1)))
    array = parent.create_array(
        "X",
        shape=features.shape,
        chunks=in_chunk,
        dtype="float64",
        compressors=_compressor(parent.metadata.zarr_format),
        attributes=_encoding("array", "0.2.0"),
    )
    for start in range(0, columns if rows else 0, in_chunk[1]):
        part = slice(start, start + in_chunk[1])
        array[:, part] = features.iloc[:, part].to_numpy("float64")


def _array(parent: zarr.Group, name: str, values: np.ndarray) -> None:
    array = parent.create_array(
        name,
        shape=values.shape,
        chunks=(min(max(len(values), 1), CHUNK),),
        dtype=values.dtype,
        compressors=_compressor(parent.metadata.zarr_format),
        attributes=_encoding("array", "0.2.0"),
    )
    if len(values):
        array[...] = values


def _strings(parent: zarr.Group, name: str, texts: np.ndarray, kind: str = "string-array") -> None:
    chunks = tuple(min(max(n, 1), CHUNK) for n in texts.shape)
    attributes = _encoding(kind, "0.2.0")
    array = parent.create_array(name, shape=texts.shape, chunks=chunks, dtype="str", attributes=attributes)
    if texts.size:
        array[...] = texts.astype(object)


def _compressor(zarr_format: int) -> Any:
    """Return a fast compressor. zstd alone takes twice as long for numbers, and saves less."""
    if zarr_format == 2:
        import numcodecs

        return numcodecs.Blosc(cname="zstd", clevel=1, shuffle=numcodecs.Blosc.SHUFFLE)
    from zarr.codecs import BloscCodec

    return BloscCodec(cname="zstd", clevel=1)


def _encoding(kind: str, version: str) -> dict[str, Any]:
    return {"encoding-type": kind, "encoding-version": version}
