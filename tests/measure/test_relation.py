"""Two label images: parent and child by largest overlap, equal to a count over all voxels."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_blockbuster import relate
from napari_blockbuster.cli.main import main
from napari_blockbuster.images import open_image
from napari_blockbuster.measure import overlaps
from napari_blockbuster.output.label_image import labels_info, open_labels


def brute_force(cells: np.ndarray, nuclei: np.ndarray) -> dict[int, tuple[int, int, int]]:
    """For each nucleus: parent, voxels inside it, voxels in all; voxel by voxel."""
    result = {}
    for nucleus in np.unique(nuclei[nuclei > 0]).tolist():
        below = cells[nuclei == nucleus]
        counts = {int(cell): int((below == cell).sum()) for cell in np.unique(below[below > 0])}
        parent = max(counts, key=lambda cell: (counts[cell], -cell), default=0)
        result[nucleus] = parent, counts.get(parent, 0), len(below)
    return result


def check(cells: np.ndarray, nuclei: np.ndarray, relation) -> None:
    expected = brute_force(cells, nuclei)
    rows = relation.children
    found = {r.label: (r.parent, r.area_inside, r.area) for r in rows.itertuples()}
    assert found == expected
    np.testing.assert_allclose(rows["fraction_inside"], [i / n for _, i, n in expected.values()])
    for row in relation.parents.itertuples():
        mine = [inside for parent, inside, _ in expected.values() if parent == row.label]
        area = int((cells == row.label).sum())
        assert (row.area, row.n_children, row.area_children) == (area, len(mine), sum(mine))
        assert row.area_remainder == area - sum(mine)
    assert relation.parents["label"].tolist() == np.unique(cells[cells > 0]).tolist()
    parent_of = np.zeros(int(nuclei.max(initial=0)) + 1, cells.dtype)
    for nucleus, (parent, *_) in expected.items():
        parent_of[nucleus] = parent
    own = (nuclei > 0) & (parent_of[nuclei] == cells)
    np.testing.assert_array_equal(relation.remainder.compute(scheduler="synchronous"), np.where(own, 0, cells))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.lists(st.integers(1, 9), min_size=2, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density, most = draw(st.floats(0, 1)), draw(st.integers(1, 6))
    dtypes = st.sampled_from([np.uint8, np.int32, np.uint32, np.int64, np.uint64])
    return tuple(
        np.where(rng.random(shape) < density, rng.integers(0, most + 1, shape), 0).astype(draw(dtypes))
        for _ in range(2)
    )


@settings(max_examples=60, deadline=None)
@given(pairs(), st.integers(1, 200))
def test_relations_equal_a_count_of_all_voxels(pair, voxels: int) -> None:
    cells, nuclei = pair
    before = overlaps.USUAL, overlaps.MOST
    # Tiles of a few voxels, so that objects lie in several.
    overlaps.USUAL, overlaps.MOST = voxels, 2 * voxels
    try:
        check(cells, nuclei, relate(da.from_array(cells, chunks=3), nuclei, progress=False))
    finally:
        overlaps.USUAL, overlaps.MOST = before


@pytest.fixture
def tissue() -> tuple[np.ndarray, np.ndarray]:
    """Cells of 20 x 20 pixels; each third has no nucleus, each fifth has two, and some nuclei lie across two cells."""
    cells = np.zeros((100, 140), np.uint32)
    nuclei = np.zeros_like(cells)
    for k in range(35):
        y, x = divmod(k, 7)
        cells[20 * y : 20 * y + 18, 20 * x : 20 * x + 18] = k + 1
        if k % 3:
            nuclei[20 * y + 2 : 20 * y + 8, 20 * x + 4 : 20 * x + 4 + (16 if k % 4 == 0 else 8)] = 100 + k
        if k % 5 == 0:
            nuclei[20 * y + 10 : 20 * y + 14, 20 * x + 5 : 20 * x + 9] = 200 + k
    return cells, nuclei


def test_files_of_any_format_are_related_and_written_with_a_pyramid(tissue, tmp_path: Path, monkeypatch) -> None:
    cells, nuclei = tissue
    monkeypatch.setattr(overlaps, "USUAL", 2000)
    monkeypatch.setattr(overlaps, "MOST", 4000)
    tifffile.imwrite(tmp_path / "cells.tif", cells, tile=(32, 32))
    zarr.save_array(str(tmp_path / "nuclei.zarr"), nuclei)
    output = tmp_path / "cytoplasm.ome.zarr"
    relation = relate(tmp_path / "cells.tif", tmp_path / "nuclei.zarr", output, progress=False)
    check(cells, nuclei, relation)
    np.testing.assert_array_equal(open_labels(output).compute(), relation.remainder.compute())
    assert labels_info(output)["provenance"]["remainder_of"] == ["cells.tif", "nuclei.zarr"]
    assert not list(tmp_path.glob(".*")), "nothing else is left beside the output"
    with pytest.raises(FileExistsError, match="overwrite=True"):
        relate(cells, nuclei, output, progress=False)
    with pytest.raises(ValueError, match="one of the images"):
        relate(cells, tmp_path / "nuclei.zarr", tmp_path / "nuclei.zarr", overwrite=True, progress=False)


def test_workers_count_the_same(tissue, tmp_path: Path, client) -> None:
    cells, nuclei = tissue
    zarr.save_array(str(tmp_path / "cells.zarr"), cells)
    relation = relate(tmp_path / "cells.zarr", nuclei, tmp_path / "c.ome.zarr", client=client, progress=False)
    check(cells, nuclei, relation)
    np.testing.assert_array_equal(open_labels(tmp_path / "c.ome.zarr").compute(), relation.remainder.compute())


def test_columns_are_added_to_tables_of_objects(tissue) -> None:
    cells, nuclei = tissue
    relation = relate(cells, nuclei, progress=False)
    mine = pd.DataFrame({"label": [1, 2, 999], "area": [1.0, 2.0, 3.0]})
    parents, children = relation.add_to(mine, relation.children[["label"]])
    assert parents["area"].tolist() == [1.0, 2.0, 3.0]
    assert parents["n_children"].tolist()[:2] == [1, 1]
    assert np.isnan(parents["n_children"][2])
    assert children["parent"].equals(relation.children["parent"])
    with pytest.raises(ValueError, match='no column "label"'):
        relation.add_to(pd.DataFrame({"id": [1]}), mine)


@pytest.mark.parametrize(
    ("cells", "nuclei", "words"),
    [
        (np.zeros((4, 5), int), np.zeros((4, 6), int), "4 x 5.*4 x 6.*same level"),
        (np.zeros((4, 5)), np.zeros((4, 5), int), "float64.*no label image"),
        (np.full((4, 5), -3), np.zeros((4, 5), int), "label -3 is negative"),
    ],
)
def test_images_that_are_no_pair_of_labels_are_refused(cells, nuclei, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        relate(cells, nuclei, progress=False)


def test_labels_above_32_bits_and_empty_images() -> None:
    cells = np.array([[2**63 + 5, 2**63 + 5, 0]], np.uint64)
    relation = relate(cells, np.array([[0, 7, 7]]), progress=False)
    assert relation.children["parent"].tolist() == [2**63 + 5]
    assert relation.remainder.compute().tolist() == [[2**63 + 5, 0, 0]]
    empty = relate(np.zeros((3, 3), int), np.zeros((3, 3), int), progress=False)
    assert (len(empty.parents), len(empty.children)) == (0, 0)
    assert not empty.remainder.compute().any()


def test_the_command_writes_tables_and_the_remainder(tissue, tmp_path: Path, capsys, monkeypatch) -> None:
    cells, nuclei = tissue
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("cells.tif", cells)
    tifffile.imwrite("nuclei.tif", nuclei)
    words = ["relate", "cells.tif", "nuclei.tif", "-o", "cyto.ome.zarr", "--cells-table", "cells.csv"]
    assert main([*words, "--nuclei-table", "nuclei.parquet", "--workers", "0", "-q"]) == 0
    relation = relate(cells, nuclei, progress=False)
    pd.testing.assert_frame_equal(pd.read_csv("cells.csv"), relation.parents)
    assert pd.read_parquet("nuclei.parquet").equals(relation.children)
    np.testing.assert_array_equal(open_labels("cyto.ome.zarr").compute(), relation.remainder.compute())
    out = capsys.readouterr().out
    assert f"nuclei                  {len(relation.children)}" in out
    assert main([*words, "-q"]) == 2
    assert "cells.csv exists. Add --overwrite" in capsys.readouterr().err
    assert open_image("cyto.ome.zarr").shape == cells.shape
