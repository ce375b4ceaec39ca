"""Tables in OME-Zarr are written without anndata, in the layout that anndata writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import zarr

from napari_blockbuster.output.tables import anndata_layout
from napari_blockbuster.output.tables.anndata_table import write_anndata

METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs")


def table_of(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "label": np.arange(7, 7 + n, dtype=np.uint32),
            "area": rng.integers(1, 900, n),
            "seam_iou": np.where(np.arange(n) % 2, np.nan, 0.5),
            "on_edge": np.arange(n) % 3 == 0,
            "intensity_mean-DAPI µ": rng.random(n),
        }
    )


def by_anndata(table: pd.DataFrame) -> anndata.AnnData:
    """Return the table as a user of anndata would make it."""
    obs = pd.DataFrame({"label": table["label"].to_numpy()}, index=table["label"].astype(str).to_numpy(dtype=object))
    obs["region"] = pd.Categorical.from_codes([0] * len(table), ["cells"])
    columns = [name for name in table.columns if name != "label"]
    uns = {"spatialdata_attrs": {"region": "cells", "region_key": "region", "instance_key": "label"}}
    return anndata.AnnData(table[columns].to_numpy("float64"), obs=obs, var=pd.DataFrame(index=columns), uns=uns)


def stored(found: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of all groups and arrays, without how they are compressed."""
    documents = {k: json.loads(v.to_bytes()) for k, v in found.items() if k.rpartition("/")[2] in METADATA}
    for document in documents.values():
        document.pop("compressor", None)
        # The first says how values become bytes, the second how bytes are compressed.
        document["codecs"] = document.get("codecs", [])[:1]
    return documents


@pytest.mark.parametrize("n", [23, 1, 0])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_layout_is_that_of_anndata(zarr_format: Any, n: int) -> None:
    theirs: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    group = zarr.open_group(zarr.storage.MemoryStore(theirs), mode="w", zarr_format=zarr_format)
    with anndata.settings.override(auto_shard_zarr_v3=False):
        anndata.io.write_elem(group, "t", by_anndata(table_of(n)))
    group = zarr.open_group(zarr.storage.MemoryStore(ours), mode="w", zarr_format=zarr_format)
    anndata_layout.write_table(group, "t", table_of(n), "label", "region", "cells")
    # anndata also writes an empty array `raw`, which versions before 0.12 refuse.
    expected = {key: value for key, value in stored(theirs).items() if not key.startswith("t/raw/")}
    assert stored(ours) == expected
    assert len(expected) == len(stored(theirs)) - (1 if zarr_format == 3 else 2)


@pytest.mark.parametrize(("n", "chunk"), [(23, None), (23, 10), (23, 50), (0, None)])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_anndata_reads_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, n: int, chunk: int | None
) -> None:
    if chunk is not None:
        monkeypatch.setattr(anndata_layout, "CHUNK", chunk)
    table = table_of(n)
    write_anndata(table, tmp_path / "tables", tmp_path / "cells", version, "token")
    found, expected = anndata.read_zarr(tmp_path / "tables" / "objects"), by_anndata(table)
    pd.testing.assert_frame_equal(found.obs, expected.obs)
    pd.testing.assert_frame_equal(found.var, expected.var)
    np.testing.assert_array_equal(found.X, expected.X)
    assert found.X.dtype == np.float64
    assert found.uns == expected.uns
    assert found.raw is None


def test_writing_a_table_does_not_import_anndata(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import pandas as pd; "
        "from napari_blockbuster.output.tables.anndata_table import write_anndata; "
        "folder = Path(sys.argv[1]); "
        "write_anndata(pd.DataFrame({'label': [1], 'area': [2]}), folder / 'tables', folder / 'o', '0.5', 't'); "
        "print(sorted({'anndata', 'dask', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert anndata.read_zarr(tmp_path / "tables" / "objects").shape == (1, 1)
