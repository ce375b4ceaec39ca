"""Filters on merged objects, compared with the same filter on the whole image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import assert_same_objects, filtered
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_blockbuster import Job, segment
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.merge.selection import apply_filter
from napari_blockbuster.output.label_image import labels_info


def components(tile: np.ndarray) -> np.ndarray:
    return ndimage.label(tile)[0]


@settings(max_examples=25)
@given(
    seed=st.integers(0, 999),
    tile=st.tuples(st.integers(5, 30), st.integers(5, 30)),
    low=st.none() | st.integers(0, 40),
    span=st.none() | st.integers(0, 100),
    border=st.booleans(),
)
def test_equals_the_whole_image(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    tile: tuple[int, int],
    low: int | None,
    span: int | None,
    border: bool,
) -> None:
    folder = tmp_path_factory.mktemp("filters")
    mask = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((40, 50)), 1.5) > 0.15
    keep = ObjectFilter(low, None if span is None else (low or 0) + span, border)
    job = Job.create(mask.astype(np.uint8), components, folder / "labels.ome.zarr", tile_shape=tile, halo=0)
    for _ in job.stage():
        pass
    plain = job.merge("touch")
    merged = apply_filter(plain, keep)
    expected = filtered(ndimage.label(mask)[0], keep)
    found = merged.labels.compute()
    assert_same_objects(found, expected)
    assert merged.n_objects == len(np.unique(expected)) - 1
    assert set(np.unique(found)) - {0} == set(range(1, merged.n_objects + 1))
    # The merge without the filter has not changed.
    assert_same_objects(plain.labels.compute(), ndimage.label(mask)[0])


def test_time_points_have_no_border_in_time(tmp_path: Path) -> None:
    movie = np.zeros((3, 20, 20), np.uint8)
    movie[:, 8:12, 8:12] = 1
    movie[1, :3, 15:18] = 1
    job = Job.create(movie, components, tmp_path / "labels.ome.zarr", tile_shape=10, halo=0, axes="tyx")
    for _ in job.stage():
        pass
    merged = job.merge("touch", filter=ObjectFilter(drop_border=True))
    np.testing.assert_array_equal(
        merged.labels.compute() > 0, filtered(movie, ObjectFilter()) * (np.arange(20)[:, None] > 5) > 0
    )
    assert merged.n_objects == 3


def test_it_is_written_and_told_and_can_be_taken_back(tmp_path: Path) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[18:23, 18:23] = mask[5:7, 5:7] = mask[0:9, 30:39] = 1
    result = segment(
        mask,
        components,
        tmp_path / "labels.ome.zarr",
        tile_shape=20,
        halo=0,
        merge="touch",
        filter=ObjectFilter(min_size=5, drop_border=True),
        keep_stage=True,
        progress=False,
    )
    np.testing.assert_array_equal(
        result.labels.compute() > 0,
        (mask > 0) & (np.add.outer(np.arange(40), np.arange(40)) > 30) & (np.arange(40)[:, None] > 10),
    )
    assert result.n_objects == 1
    assert result.provenance["merge"]["filter"] == {"min_size": 5, "drop_border": True}
    assert labels_info(result.path)
    assert Job.open(result.path).merge("touch").n_objects == 3


def test_sizes_in_micrometres() -> None:
    assert ObjectFilter.of_volumes(2.0, 4.0, (0.1, 1.0, 1.0)) == ObjectFilter(20, 40)
    assert ObjectFilter.of_volumes(None, 1.05, (0.1, 1.0)) == ObjectFilter(None, 10)


@pytest.mark.parametrize(("low", "high", "said"), [(-1, None, "min_size is -1"), (9, 3, "No object can be kept")])
def test_impossible_sizes_are_refused(low: int, high: int | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ObjectFilter(low, high)


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("rule", ["none", "touch"])
def test_numbers_stay_or_are_given_anew_as_the_merge_says(rule: str, fill: bool, tmp_path: Path) -> None:
    """With the rule `none` every label is an object, so counts are the same for both numberings."""
    mask = np.zeros((20, 40), np.uint8)
    mask[0:2, 0:2] = mask[5:12, 2:8] = mask[5:12, 15:25] = mask[5:12, 30:38] = 1
    keep = ObjectFilter(min_size=10, fill_holes=fill)
    job = Job.create(mask, components, tmp_path / "labels.ome.zarr", tile_shape=20, halo=0)
    for _ in job.stage():
        pass
    for sequential in (True, False):
        plain = job.merge(rule, sequential_labels=sequential)
        merged = job.filtered(plain, keep)
        assert merged.sequential is plain.sequential is sequential
        found = merged.labels.compute()
        if sequential:
            assert set(np.unique(found)) - {0} == set(range(1, merged.n_objects + 1))
        else:
            before = plain.labels.compute()
            np.testing.assert_array_equal(found, np.where(found > 0, before, 0))
            assert 1 not in found
        assert len(np.unique(found)) - 1 == merged.n_objects


def test_segment_keeps_numbers_when_it_filters(tmp_path: Path) -> None:
    mask = np.zeros((20, 40), np.uint8)
    mask[0:2, 0:2] = mask[5:12, 2:8] = mask[5:12, 25:35] = 1
    result = segment(
        mask,
        components,
        tmp_path / "labels.ome.zarr",
        tile_shape=20,
        halo=0,
        merge="none",
        filter=ObjectFilter(min_size=10),
        sequential_labels=False,
        progress=False,
    )
    assert set(np.unique(result.labels.compute())) == {0, 2, 3}
