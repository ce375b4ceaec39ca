"""The table of a result: in memory, as Parquet and CSV, and as AnnData in the OME-Zarr."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import polars
import pytest
import tifffile
from scipy import ndimage
from skimage.measure import regionprops_table

from napari_blockbuster import Job, convert, segment
from napari_blockbuster.machine.errors import JobMismatchError
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.output.table_files import read_table, table_file


def components(pixels: np.ndarray) -> np.ndarray:
    return ndimage.label(pixels > 560)[0]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    rng = np.random.default_rng(5)
    smooth = ndimage.gaussian_filter(rng.standard_normal((2, 70, 90)), (0, 1.2, 1.2))
    return ((smooth - smooth.min()) / np.ptp(smooth) * 1000).astype(np.uint16)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> Path:
    """An OME-Zarr of two channels with names and sizes."""
    folder = tmp_path_factory.mktemp("image")
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    tifffile.imwrite(folder / "a.ome.tif", pixels, metadata=metadata)
    return convert(folder / "a.ome.tif", progress=False)


OPTIONS: dict[str, Any] = {"channel": "DAPI", "tile_shape": 32, "halo": 4, "merge": "touch", "progress": False}


def assert_is_table_of(table: pd.DataFrame, labels: np.ndarray, pixels: np.ndarray) -> None:
    names = ["label", "area", "centroid", "bbox"]
    for name, values in regionprops_table(labels, properties=names).items():
        np.testing.assert_allclose(table[name], values, rtol=1e-9, err_msg=name)
    for channel, name in enumerate(("DAPI", "GFP")):
        expected = regionprops_table(labels, pixels[channel], properties=["intensity_mean", "intensity_max"])
        for column, values in expected.items():
            np.testing.assert_allclose(table[f"{column}-{name}"], values, rtol=1e-9)


def test_a_result_has_its_table_in_every_form(image: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    result = segment(image, components, tmp_path / "cells.ome.zarr", measure="GFP", csv=True, **OPTIONS)
    table, labels = result.table, result.labels.compute()
    assert len(table) == result.n_objects > 20
    assert_is_table_of(table, labels, pixels)
    np.testing.assert_allclose(table["centroid_um-0"], table["centroid-0"] * 0.25, rtol=1e-9)
    np.testing.assert_allclose(table["area_um2"], table["area"] * 0.125, rtol=1e-9)
    assert result.table_path == tmp_path / "cells.ome.zarr.table.parquet"
    pd.testing.assert_frame_equal(read_table(result.path), table)
    by_polars = polars.read_parquet(result.table_path)
    assert by_polars.columns == list(table.columns)
    np.testing.assert_array_equal(by_polars["area"].to_numpy(), table["area"])
    of_text = pd.read_csv(tmp_path / "cells.ome.zarr.table.csv")
    pd.testing.assert_frame_equal(of_text, table, check_dtype=False)
    found = anndata.read_zarr(result.path / "tables" / "objects")
    np.testing.assert_array_equal(found.obs["label"], table["label"])
    assert list(found.var_names) == [c for c in table.columns if c != "label"]
    np.testing.assert_array_equal(found[:, "intensity_mean-GFP"].X.ravel(), table["intensity_mean-GFP"])
    assert set(found.obs[found.uns["spatialdata_attrs"]["region_key"]]) == {found.uns["spatialdata_attrs"]["region"]}


def test_labels_inside_an_image_have_their_table_in_the_image(image: Path, pixels: np.ndarray) -> None:
    result = segment(image, components, image / "labels" / "cells", measure="GFP", **OPTIONS)
    assert_is_table_of(result.table, result.labels.compute(), pixels)
    import zarr

    assert zarr.open_group(image / "tables", mode="r").attrs["tables"] == ["cells"]
    found = anndata.read_zarr(image / "tables" / "cells")
    assert found.n_obs == result.n_objects
    again = segment(
        image, components, image / "labels" / "cells", filter=ObjectFilter(min_size=20), overwrite=True, **OPTIONS
    )
    assert again.n_objects < result.n_objects
    assert anndata.read_zarr(image / "tables" / "cells").n_obs == len(again.table) == again.n_objects
    assert zarr.open_group(image / "tables", mode="r").attrs["tables"] == ["cells"]


def test_a_merge_with_other_settings_has_another_table_without_its_image(image: Path, tmp_path: Path) -> None:
    copy = tmp_path / "moved.ome.zarr"
    shutil.copytree(image, copy)
    job = Job.create(copy, components, tmp_path / "o.ome.zarr", channel=0, tile_shape=32, halo=4)
    list(job.stage())
    copy.rename(tmp_path / "gone")
    job = Job.open(job.folder, model=components)
    tables = [job.table(job.merge(rule)) for rule in ("touch", "none")]
    assert len(tables[0]) < len(tables[1]) == tables[1]["n_labels"].sum()
    assert tables[0]["area"].sum() == tables[1]["area"].sum()
    pd.testing.assert_series_equal(tables[0].filter(like="bbox-").max(), tables[1].filter(like="bbox-").max())
    cut = job.merge("touch")
    pair = cut.seams[int(np.flatnonzero(cut.joined)[0])]
    ends = tuple((int(pair[side]), int(pair[f"{side}_id"])) for side in ("low", "high"))
    by_hand = job.table(job.merge("touch", cut=[ends]))
    assert by_hand["cut_by_hand"].sum() == 2
    assert len(by_hand) == len(tables[0]) + 1


def test_a_file_that_is_no_table_of_ours_is_not_replaced(image: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.ome.zarr"
    theirs = table_file(output)
    pd.DataFrame({"mine": [1]}).to_parquet(theirs)
    with pytest.raises(FileExistsError, match=r"o\.ome\.zarr\.table\.parquet"):
        segment(image, components, output, **OPTIONS)
    assert pd.read_parquet(theirs)["mine"].tolist() == [1]
    assert not output.exists()
    result = segment(image, components, output, overwrite=True, **OPTIONS)
    assert len(pd.read_parquet(theirs)) == result.n_objects


def test_a_table_of_other_labels_is_refused(image: Path, tmp_path: Path) -> None:
    first = segment(image, components, tmp_path / "a.ome.zarr", **OPTIONS)
    second = segment(image, components, tmp_path / "b.ome.zarr", **OPTIONS)
    assert first.table_path is not None
    assert second.table_path is not None
    second.table_path.write_bytes(first.table_path.read_bytes())
    with pytest.raises(FileNotFoundError, match="belongs to other labels"):
        _ = second.table


def test_other_measured_channels_are_another_job(image: Path, tmp_path: Path) -> None:
    options = {"channel": 0, "tile_shape": 32, "halo": 4}
    job = Job.create(image, components, tmp_path / "o.ome.zarr", **options)
    next(iter(job.stage()))
    with pytest.raises(JobMismatchError, match=r"measure: \[\] in the job, \[1\] now"):
        Job.create(image, components, tmp_path / "o.ome.zarr", measure=1, **options)
    with pytest.raises(ValueError, match="RFP"):
        Job.create(image, components, tmp_path / "p.ome.zarr", measure="RFP", **options)


def test_filled_holes_count(image: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    keep = ObjectFilter(fill_holes=True)
    result = segment(image, components, tmp_path / "o.ome.zarr", measure="GFP", filter=keep, **OPTIONS)
    assert result.provenance["merge"]["holes_filled"] > 0
    labels = result.labels.compute()
    assert_is_table_of(result.table, labels, pixels)
    plain = segment(image, components, tmp_path / "plain.ome.zarr", measure="GFP", **OPTIONS).table
    assert list(result.table.columns) == list(plain.columns)
    pd.testing.assert_series_equal(result.table["n_tiles"], plain["n_tiles"])
    assert result.table["area"].sum() > plain["area"].sum()
