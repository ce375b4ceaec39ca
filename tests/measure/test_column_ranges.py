"""Objects are kept by any column of their table, on merged objects."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import zarr
from command_line import mistake, run
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_blockbuster import Job, segment
from napari_blockbuster.merge.column_ranges import checked_ranges, range_texts, ranges_of_texts
from napari_blockbuster.merge.filters import ObjectFilter

OPTIONS: dict = {"tile_shape": 24, "halo": 4}


def components(pixels: np.ndarray) -> np.ndarray:
    return ndimage.label(pixels > 500)[0]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    smooth = ndimage.gaussian_filter(np.random.default_rng(2).standard_normal((70, 70)), 1.3)
    path = tmp_path_factory.mktemp("image") / "a.zarr"
    pixels = ((smooth - smooth.min()) / np.ptp(smooth) * 1000).astype(np.uint16)
    zarr.create_array(str(path), data=pixels, chunks=(32, 32))
    return path


@pytest.fixture(scope="module")
def job(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    made = Job.create(image, components, tmp_path_factory.mktemp("job") / "o.ome.zarr", **OPTIONS)
    list(made.stage())
    return made


def test_ranges_select_merged_objects_and_nothing_is_lost(job: Job) -> None:
    merged = job.merge("touch")
    table = job.table(merged)
    middle = float(table["intensity_mean"].median())
    keep = ObjectFilter(ranges={"area": (8, None), "intensity_mean": (middle, None)})
    wanted = table[(table["area"] >= 8) & (table["intensity_mean"] >= middle)]
    assert 0 < len(wanted) < len(table)
    assert (wanted["n_tiles"] > 1).any(), "an object across a seam is measured as a whole"
    filtered = job.filtered(merged, keep)
    assert (filtered.n_objects, filtered.n_removed) == (len(wanted), len(table) - len(wanted))
    again = job.table(filtered)
    for name in ("area", "intensity_mean", "centroid-0", "boundary_length", "n_tiles"):
        np.testing.assert_array_equal(again[name], wanted[name])
    # The merge itself is as it was.
    assert job.filtered(merged, ObjectFilter()).n_objects == len(table)


def test_the_range_of_a_size_is_the_size_filter(job: Job) -> None:
    by_size = job.merge("touch", filter=ObjectFilter(min_size=5, max_size=30))
    by_range = job.merge("touch", filter=ObjectFilter(ranges={"area": (5, 30)}))
    np.testing.assert_array_equal(by_size.new_ids, by_range.new_ids)


def test_an_unknown_column_is_refused_before_the_first_tile(image: Path, tmp_path: Path) -> None:
    def never(pixels: np.ndarray) -> np.ndarray:
        raise AssertionError("a tile was segmented")

    keep = ObjectFilter(ranges={"intensity_mean-DAPI": (1, None)})
    with pytest.raises(ValueError, match=r"no column 'intensity_mean-DAPI'.*intensity_mean"):
        segment(image, never, tmp_path / "o.ome.zarr", filter=keep, progress=False, **OPTIONS)


def test_the_command_line_and_the_provenance(image: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.ome.zarr"
    words = ["--keep", "area>=8", "--keep", "0.2<=circularity<=0.9", "--csv"]
    more = ["--model", "threshold", "--merge", "touch", "--tile", 24, "--halo", 4, "-o", output, "-q", "--workers", 0]
    run("segment", image, *more, *words)
    said = json.loads((output / "zarr.json").read_bytes())["attributes"]["napari-blockbuster"]["merge"]
    assert said["filter"] == {"ranges": {"area": [8.0, None], "circularity": [0.2, 0.9]}}
    assert ObjectFilter(**said["filter"]) == ObjectFilter(ranges=ranges_of_texts(words[1:4:2]))
    rows = (tmp_path / "o.ome.zarr.table.csv").read_text().splitlines()
    assert len(rows) - 1 == said["objects"] > 0
    assert said["removed"] > 0
    assert "area>=50" in mistake("segment", image, *more, "--overwrite", "--keep", "area")


names = st.sampled_from(["area", "intensity_mean-DAPI", "centroid-0", "axis_major_length_um"])
bounds = st.none() | st.floats(-1e6, 1e6)


@given(st.dictionaries(names, st.tuples(bounds, bounds)))
def test_ranges_survive_the_command_line(ranges: dict) -> None:
    ordered = {k: tuple(sorted(v)) if None not in v else v for k, v in ranges.items()}
    checked = checked_ranges(ordered)
    assert ranges_of_texts(range_texts(checked)) == checked
    assert ObjectFilter(**json.loads(json.dumps(ObjectFilter(ranges=checked).settings()))).ranges == checked


@pytest.mark.parametrize("text", ["area", ">=5", "area>5", "area=>5", "5<=area>=6", "area>=five", ""])
def test_a_text_that_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Give a column and a limit"):
        ranges_of_texts([text])


def test_limits_without_a_number_on_the_command_line() -> None:
    assert ObjectFilter(ranges={"area": (5, math.inf)}) == ObjectFilter(ranges={"area": (5, None)})
    assert not ObjectFilter(ranges={"area": (-math.inf, math.inf)})
    for nothing in ((math.inf, None), (None, -math.inf)):
        with pytest.raises(ValueError, match="No object can be kept"):
            ObjectFilter(ranges={"area": nothing})


@pytest.mark.parametrize("ranges", [["area"], {3: (1, 2)}, "area"])
def test_ranges_are_limits_of_named_columns(ranges: object) -> None:
    with pytest.raises(ValueError, match="Give names of columns with their limits"):
        ObjectFilter(ranges=ranges)
