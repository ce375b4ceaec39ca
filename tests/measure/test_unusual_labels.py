"""Unusual label images: tracked over time, with large ids, on other axes. And properties that cannot be measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.measure import regionprops_table

from napari_blockbuster import measure_objects, relate

SUMS = ["label", "area", "bbox", "centroid", "intensity_mean"]


def measured(*images: Any, **options: Any) -> Any:
    return measure_objects(*images, progress=False, **options)


@pytest.fixture(scope="module")
def tracked() -> tuple[np.ndarray, np.ndarray]:
    """Two tracks, of which the first has a different size and place in each frame."""
    labels = np.zeros((3, 20, 22), np.uint16)
    labels[0, 2:5, 2:5] = labels[1, 10:14, 10:14] = labels[2, 6:8, 0:2] = 7
    labels[1, 0:2, 0:3] = 3
    return labels, np.random.default_rng(0).random(labels.shape).astype(np.float32)


@pytest.mark.parametrize("labels_axes", ["tyx", None])
def test_tracked_labels_have_a_row_at_each_time(
    tracked: tuple[np.ndarray, np.ndarray], labels_axes: str | None
) -> None:
    labels, image = tracked
    table = measured(labels, image, axes="tyx", labels_axes=labels_axes, properties=["solidity", "intensity_median"])
    assert table[["label", "t"]].to_numpy().tolist() == [[3, 1], [7, 0], [7, 1], [7, 2]]
    for row in table.to_dict("records"):
        frame = np.where(labels[row["t"]] == row["label"], row["label"], 0)
        pixels = image[row["t"]]
        for name, (value,) in regionprops_table(frame, pixels, properties=[*SUMS, "solidity"]).items():
            assert row[name] == pytest.approx(value), name
        assert row["intensity_median"] == pytest.approx(np.median(pixels[frame > 0]))


def test_images_with_other_axes_are_refused(tracked: tuple[np.ndarray, np.ndarray]) -> None:
    labels, image = tracked
    with pytest.raises(ValueError, match="have the axes z, y, x, and the image array has the axes t, y, x"):
        measured(labels, image, axes="tyx", labels_axes="zyx")


def test_labels_above_2_to_the_53_are_told_apart() -> None:
    large = 2**62 + 1
    cells = np.zeros((8, 9), np.uint64)
    cells[1:3, 1:4], cells[4:7, 5:9] = large, large - 1
    table = measured(cells, np.ones((8, 9)), properties=["solidity"])
    assert table[["label", "area"]].to_numpy().tolist() == [[large - 1, 12], [large, 6]]
    nuclei = cells.astype(np.int64)
    nuclei[1, 1] = nuclei[4, 5] = 0
    remainder = np.asarray(relate(cells, nuclei, progress=False).remainder)
    assert np.argwhere(remainder).tolist() == [[1, 1], [4, 5]]


def test_properties_of_places_are_those_of_the_whole_image() -> None:
    labels, image = np.zeros((9, 9), np.uint8), np.arange(81.0).reshape(9, 9)
    labels[4:7, 5:8] = 5
    image[4, 5] = np.nan
    plain = measured(labels, image)
    table = measured(labels, image, properties=["label", "bbox", "centroid", "area", "intensity_mean", "slice"])
    assert table.equals(plain)
    assert table["intensity_mean"].item() == pytest.approx(np.nanmean(image[4:7, 5:8]))
    # Infinite pixels do not count either.
    image[4, 6] = np.inf
    found = measured(labels, image, properties="intensity_percentile_100")
    assert found["intensity_percentile_100"].item() == image[6, 7]


def test_an_object_without_a_value_does_not_end_the_run() -> None:
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[1:4, 1:4, 1:4], labels[7, 7, 7] = 1, 2
    table = measured(labels, properties=["feret_diameter_max"])
    assert table["feret_diameter_max"].notna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        (["intensity_percentile_101"], "Use a number from 0 to 100"),
        (["intensity_percentile_x"], "Use a number from 0 to 100"),
        (["intensity_median"], "needs an image"),
        (["moments_weighted"], "needs an image"),
        (["coords"], "is not a fixed number of values per object"),
        (["image"], "is not a fixed number of values per object"),
        (["perimeter"], "does not exist for images with 3 spatial axes"),
    ],
)
def test_properties_that_cannot_be_measured_are_refused_before_any_tile(
    properties: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_blockbuster.job.measurement.measure_label_image", None)
    with pytest.raises(ValueError, match=words):
        measured(np.ones((4, 4, 4), np.uint8), properties=properties)


def failing(region: Any) -> dict[str, float]:
    raise RuntimeError("no such thing")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (failing, r"The function failing failed on the object with the label 4 \(RuntimeError: no such thing\)"),
        (lambda region: None, "must return a dict of names and numbers"),
        (lambda region: {"area": 1.0}, "returns 'area', which the table has already"),
    ],
)
def test_a_function_that_fails_is_named(function: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        measured(np.full((4, 4), 4), functions=[function])


def test_a_table_that_cannot_be_written_is_refused_before_any_tile(tmp_path: Path) -> None:
    labels = np.ones((4, 4), np.uint8)
    with pytest.raises(FileNotFoundError, match=r"The folder .*none of the table does not exist"):
        measured(labels, None, tmp_path / "none" / "table.csv")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        measured(labels, None, tmp_path, overwrite=True)
    assert list(tmp_path.iterdir()) == []
