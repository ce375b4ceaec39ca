"""The table of any labels layer in a real viewer: sort, filter, fly, click, plot, color, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import Qt
from skimage.measure import regionprops_table


def column(table: Any, name: str) -> list[Any]:
    """The values of a column, in the order of the lines."""
    return table.content.column(name)[table.objects.model.rows].tolist()


def enter(qtbot: Any, until: Any, table: Any, text: str) -> None:
    """Type a filter, as a user does."""
    table.objects.filter.clear()
    qtbot.keyClicks(table.objects.filter, text)
    qtbot.keyClick(table.objects.filter, Qt.Key_Return)
    until(lambda: table.objects.expression == text and not table.objects._work.is_busy)


def test_a_labels_layer_is_measured_sorted_and_filtered(open_table: Any, until: Any, qtbot: Any, squares: Any) -> None:
    _, _, table = open_table(squares)
    expected = regionprops_table(squares, properties=("label", "area", "centroid", "bbox", "extent"))
    for name, values in expected.items():
        np.testing.assert_allclose(table.content.frame[name], values)
    objects = table.objects
    area = table.content.names.index("area")
    objects.table.sortByColumn(area, Qt.DescendingOrder)
    until(lambda: column(table, "area") == sorted(expected["area"], reverse=True))
    enter(qtbot, until, table, "area > 100 and bbox-0 = 1")
    mask = (expected["area"] > 100) & (expected["bbox-0"] == 1)
    assert column(table, "area") == sorted(expected["area"][mask], reverse=True)
    assert objects.count.text() == f"{mask.sum()} of 60"
    enter(qtbot, until, table, "are > 3")
    assert 'no column "are". Did you mean "area"?' in objects.problem.plain
    assert objects.model.rowCount() == mask.sum(), "a wrong filter changes nothing"
    enter(qtbot, until, table, "")
    assert objects.model.rowCount() == 60


def test_a_row_flies_to_its_object_and_a_click_selects_its_row(open_table: Any, until: Any, squares: Any) -> None:
    viewer, layer, table = open_table(squares, scale=(4, 0.5, 0.5), translate=(0, 10, 0))
    row = table.content.row_of(47)
    table.objects.table.selectRow(table.objects.model.line_of(row))
    place = table.content.place_of(row)
    np.testing.assert_allclose(viewer.dims.point[0], place[0] * 4)
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], place[1:] * 0.5 + (10, 0))
    assert layer.selected_label == 47
    until(lambda: table.painter.selection.is_shown)
    shown = np.asarray(table.painter.selection.layer.data)
    np.testing.assert_array_equal(np.isfinite(shown), squares == 47)
    table.bar.only.click()
    until(lambda: table.objects.model.rowCount() == 1)
    table.bar.only.click()
    until(lambda: table.objects.model.rowCount() == 60)
    # A click on another object of the same plane.
    table.clicks.pick_at(layer.data_to_world((2, 8, 5)))
    assert table.content.labels[table.objects.current_row()] == squares[2, 8, 5] == 41
    assert layer.selected_label == 41
    assert table.bar.only.text() == "Selected only (1)"
    table.clicks.pick_at(layer.data_to_world((2, 0, 0)))
    assert layer.selected_label == 41, "background is no object"


def test_a_lasso_selects_objects_in_the_plot_the_table_and_the_viewer(
    open_table: Any, until: Any, squares: Any
) -> None:
    _, _, table = open_table(squares)
    table.plot.x.setCurrentText("area")
    table.plot.y.setCurrentText("centroid-2")
    until(lambda: not table.plot._work.is_busy)
    table.plot.select_inside(np.array([[0, 0], [155, 0], [155, 100], [0, 100]]))
    until(lambda: table.selected is not None)
    frame = table.content.frame
    expected = (frame["area"] < 155) & (frame["centroid-2"] < 100)
    np.testing.assert_array_equal(table.selected, expected)
    until(lambda: table.painter.selection.is_shown)
    shown = np.isfinite(np.asarray(table.painter.selection.layer.data))
    np.testing.assert_array_equal(shown, np.isin(squares, frame["label"][expected]))
    table.bar.only.click()
    until(lambda: table.objects.model.rowCount() == expected.sum())
    table.plot.select_inside(np.array([[-9, -9], [-8, -9], [-8, -8]]))
    until(lambda: table.selected is None)
    until(lambda: table.objects.model.rowCount() == 60)
    assert not table.painter.selection.is_shown


@pytest.mark.parametrize("multiscale", [False, True])
def test_a_column_colors_the_objects(open_table: Any, until: Any, squares: Any, multiscale: bool) -> None:
    data = [squares, squares[:, ::2, ::2]] if multiscale else squares
    viewer, layer, table = open_table(data, multiscale=multiscale)
    table.bar.color.setCurrentText("area")
    until(lambda: table.painter.colors.is_shown)
    painted = table.painter.colors.layer
    areas = np.zeros(61)
    areas[table.content.labels] = table.content.column("area")
    for level, labels in zip(
        painted.data if multiscale else [painted.data], data if multiscale else [data], strict=True
    ):
        values = np.asarray(level)
        np.testing.assert_array_equal(np.nan_to_num(values), areas[labels])
        np.testing.assert_array_equal(np.isnan(values), labels == 0)
    assert viewer.layers.index(painted) == viewer.layers.index(layer) + 1
    assert viewer.layers.selection.active is layer
    table.bar.color.setCurrentText("extent")
    until(lambda: "extent" in painted.name)
    assert np.nanmax(np.asarray(painted.data[0] if multiscale else painted.data)) == 1
    table.bar.color.setCurrentText("—")
    assert not table.painter.colors.is_shown
    assert layer.features["area"].tolist() == table.content.column("area").tolist()


@pytest.mark.parametrize("name", ["objects.csv", "objects.parquet", "objects"])
def test_the_listed_rows_are_exported(
    open_table: Any, until: Any, qtbot: Any, squares: Any, tmp_path: Path, name: str
) -> None:
    _, _, table = open_table(squares)
    enter(qtbot, until, table, "area < 200")
    table.export(tmp_path / name)
    file = tmp_path / (name if "." in name else "objects.csv")
    until(file.exists)
    found = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
    expected = table.content.frame[table.content.frame["area"] < 200].reset_index(drop=True)
    # A CSV file has no types: 8.0 is written as 8.
    pd.testing.assert_frame_equal(found, expected, check_dtype=file.suffix == ".parquet")
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [file.name]


def test_other_labels_are_listed_and_painted_labels_measured_again(open_table: Any, until: Any, squares: Any) -> None:
    viewer, layer, table = open_table(squares.copy())
    other = viewer.add_labels(np.pad(np.eye(5, dtype=int), ((0, 9), (0, 9))), name="other")
    until(lambda: table.bar.subject.count() == 2)
    assert table.bar.subject.currentText() == "cells", "a new layer does not replace the table"
    table.bar.subject.setCurrentText("other")
    table.bar.subject.activated.emit(table.bar.subject.currentIndex())
    until(lambda: len(table.content) == 1)
    assert table.content.frame["area"].tolist() == [5]
    table.bar.subject.activated.emit(table.bar.subject.findText("cells"))
    until(lambda: len(table.content) == 60)
    layer.data[0, 0, 0] = 99
    table.bar.again.click()
    until(lambda: len(table.content) == 61)
    viewer.layers.remove(layer)
    until(lambda: table.bar.subject.count() == 1 and len(table.content) == 1)
    assert table.follower.subject.layer is other


def test_images_of_the_same_voxels_are_measured(open_table: Any, until: Any, squares: Any) -> None:
    viewer, _, table = open_table(squares, scale=(2, 1, 1))
    bright = np.arange(squares.size, dtype=float).reshape(squares.shape)
    viewer.add_image(bright, name="DAPI", scale=(2, 1, 1))
    viewer.add_image(bright, name="elsewhere")
    table.bar.again.click()
    until(lambda: "intensity_mean-DAPI" in table.content.names)
    expected = regionprops_table(squares, bright, properties=("intensity_mean",))["intensity_mean"]
    np.testing.assert_allclose(table.content.frame["intensity_mean-DAPI"], expected)
    assert "intensity_mean-elsewhere" not in table.content.names
    table.bar.color.setCurrentText("intensity_mean-DAPI")
    until(lambda: table.painter.colors.is_shown)
    # A layer of colors is no image to measure.
    table.bar.again.click()
    until(lambda: not table.follower._work.is_busy)
    assert [name for name in table.content.names if name.startswith("intensity_mean")] == ["intensity_mean-DAPI"]
