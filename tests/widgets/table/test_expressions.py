"""Filter expressions: which rows they select, as ranges, and what is said of those that cannot be used."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_blockbuster.widgets.table.content import Arrangement, LabelValues, TableContent, arrange, robust_limits
from napari_blockbuster.widgets.table.expression import ExpressionError, evaluate, ranges_of
from napari_blockbuster.widgets.table.plots.density import MOST_POINTS, bars, cloud, inside

COLUMNS = {
    "area": np.array([10, 50, 90, 200]),
    "sphericity": np.array([0.5, np.nan, 0.9, 0.7]),
    "centroid-0": np.array([1.0, 2.0, 3.0, 4.0]),
    "intensity_mean-DAPI 2": np.array([5.0, 6.0, 7.0, 8.0]),
    "on_edge": np.array([True, False, False, True]),
    "name": np.array(["a", "b", "a", "c"], object),
}


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("area > 50", [2, 3]),
        ("area >= 50 and sphericity < .8", [3]),
        ("(area > 50) & (sphericity < 0.8)", [3]),
        ("50 <= area < 200 or centroid-0 = 4", [1, 2, 3]),
        ("not on_edge", [1, 2]),
        ("`centroid-0` > 2 AND area < 100", [2]),
        ("intensity_mean-DAPI 2 ≥ 7", [2, 3]),
        ("area / centroid-0 > 29", [2, 3]),
        ("name == 'a'", [0, 2]),
        ("isnan(sphericity)", [1]),
        ("sphericity == sphericity", [0, 2, 3]),
        ("log10(area) > -1 and abs(-area) == 10", [0]),
    ],
)
def test_conditions_select_rows(text: str, rows: list[int]) -> None:
    assert np.flatnonzero(evaluate(text, COLUMNS)).tolist() == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("are > 3", 'Did you mean "area"'),
        ("area >", "cannot be read"),
        ("area", "no condition"),
        ("area and on_edge", "'area' is no condition"),
        ("name > 3", "cannot be compared"),
        ("__import__('os')", "cannot be used"),
        ("area.__class__ == 3", "cannot be used"),
        ("[x for x in area]", "cannot be used"),
        ("area in (1, 2)", "use one of the comparisons"),
        ("`volume` > 3", 'no column "volume"'),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ExpressionError, match=words):
        evaluate(text, COLUMNS)


@pytest.mark.parametrize("text", ["area > 50", "50 < area <= 90 and centroid-0 >= 3", "0.6 < sphericity", "area = 50"])
def test_ranges_select_the_same_rows(text: str) -> None:
    ranges = ranges_of(text, list(COLUMNS))
    kept = np.ones(4, bool)
    for name, (low, high) in ranges.items():
        values = COLUMNS[name]
        kept &= (values >= (-np.inf if low is None else low)) & (values <= (np.inf if high is None else high))
    assert kept.tolist() == evaluate(text, COLUMNS).tolist()


@pytest.mark.parametrize(
    "text", ["area > 3 or area < 1", "area != 3", "area > centroid-0", "not on_edge", "2 * area > 3"]
)
def test_other_conditions_are_no_ranges(text: str) -> None:
    assert ranges_of(text, list(COLUMNS)) is None


def test_rows_are_sorted_with_missing_values_last() -> None:
    import pandas as pd

    content = TableContent(pd.DataFrame({"label": [4, 9, 2, 7], **COLUMNS}))
    assert arrange(content, Arrangement("", "sphericity")).tolist() == [0, 3, 2, 1]
    assert arrange(content, Arrangement("", "sphericity", True)).tolist() == [2, 3, 0, 1]
    assert arrange(content, Arrangement("area > 20", "name", True)).tolist() == [3, 1, 2]
    assert arrange(content, Arrangement("area > 20"), np.array([1, 1, 0, 1], bool)).tolist() == [1, 3]
    assert [content.row_of(label) for label in (4, 9, 2, 7, 3)] == [0, 1, 2, 3, None]


@pytest.mark.parametrize("highest", [9, 2**40])
def test_labels_are_looked_up(highest: int) -> None:
    values = LabelValues(np.array([3, highest, 5]), np.array([1.5, 2.5, 3.5]))
    found = values(np.array([[0, 3, 4], [5, highest, highest + 1]]))
    np.testing.assert_array_equal(found, np.float32([[np.nan, 1.5, np.nan], [3.5, 2.5, np.nan]]))


def test_limits_of_colors_are_always_apart() -> None:
    for values in (np.array([np.nan, 2.0]), np.array([3, 3]), np.zeros(0), np.array([1.0, np.inf, 5.0])):
        low, high = robust_limits(values)
        assert np.isfinite([low, high]).all()
        assert low < high


def test_plots_count_every_object_once() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, MOST_POINTS + 5))
    x[3] = np.nan
    selected = x > 0
    histogram = bars(x, selected)
    assert histogram.counts.sum() == len(x) - 1
    assert histogram.selected.sum() == selected.sum()
    many, few = cloud(x, y, selected), cloud(x[:50], y[:50], selected[:50])
    assert many.density.sum() == len(x) - 1
    assert many.selected_density.sum() == selected.sum()
    assert len(few.points) == 49
    assert len(few.selected_points) == selected[:50].sum()


def test_a_lasso_takes_the_points_inside() -> None:
    x, y = np.array([0.0, 1, 2, np.nan]), np.array([0.0, 1e6, 2e6, 0])
    polygon = np.array([[-1, -1e5], [1.5, -1e5], [1.5, 1.5e6], [-1, 1.5e6]])
    assert inside(x, y, polygon).tolist() == [True, True, False, False]
    assert inside(x, None, polygon).tolist() == [True, True, False, False]


def test_label_size_and_place_are_the_first_columns() -> None:
    names = ["label", "area", "area_bbox", "centroid-0", "centroid-1", "solidity", "area_um2", "centroid_um-0", "t"]
    content = TableContent(pd.DataFrame({name: [1.0] for name in names}))
    assert content.names == [
        *("label", "t", "area_um2", "centroid-0", "centroid-1"),
        *("area", "area_bbox", "solidity", "centroid_um-0"),
    ]
    assert content.numeric == names[1:]
