"""The section Where in a real viewer: draw, choose tiles, find tissue, run, and see only that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dock_actions import click, set_up
from napari.layers import Labels
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_blockbuster import Job, segment
from napari_blockbuster.geometry.roi import Roi
from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.models import get_model

TILE, HALO = (50, 65), (16, 16)


def canvas_point(viewer: Any, y: float, x: float) -> QPoint:
    """Where world coordinates are on the canvas."""
    native, camera = viewer.window._qt_viewer.canvas.native, viewer.scene.camera
    center_y, center_x = camera.center[-2:]
    return QPoint(
        round((x - center_x) * camera.zoom + native.width() / 2),
        round((y - center_y) * camera.zoom + native.height() / 2),
    )


def move_to(viewer: Any, y: float, x: float) -> None:
    """Move the mouse over the canvas. The pointer of the screen stays, which reaches only what is in front there."""
    native, point = viewer.window._qt_viewer.canvas.native, canvas_point(viewer, y, x)
    where, on_screen = QPointF(point), QPointF(native.mapToGlobal(point))
    event = QMouseEvent(QEvent.MouseMove, where, on_screen, Qt.NoButton, Qt.NoButton, Qt.NoModifier)
    QApplication.sendEvent(native, event)


def press_at(viewer: Any, y: float, x: float) -> None:
    """Move the mouse to world coordinates and click there."""
    native, point = viewer.window._qt_viewer.canvas.native, canvas_point(viewer, y, x)
    move_to(viewer, y, x)
    QTest.mouseClick(native, Qt.LeftButton, pos=point, delay=20)


@pytest.fixture
def dock(open_dock: Any, pixels: np.ndarray, tmp_path: Path) -> tuple[Any, Any]:
    viewer, widget = open_dock(pixels, name="blobs", show=True, scale=(0.5, 0.5))
    set_up(widget, tmp_path / "gui.ome.zarr", TILE, HALO, diameter=14)
    assert "16 tiles" in widget.tiles.note.text()
    return viewer, widget


def test_draw_a_region_run_and_grow_it(dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path) -> None:
    viewer, widget = dock
    where = widget.form.where
    assert where.values() == {}
    assert where.note.text() == ""
    click(qtbot, where.draw)
    assert where.source.currentText() == "Region"
    assert "double-click the last corner" in where.note.text()
    assert not where.note.is_problem
    assert not widget.is_ready
    # A triangle in the first two rows of tiles, with the mouse. The image has voxels of half a unit.
    for y, x in ((2, 2), (2, 80), (40, 10)):
        press_at(viewer, y, x)
        # A second click within the time of a double click would end the polygon.
        qtbot.wait(600)
        assert "double-click the last corner" in where.note.text()
    move_to(viewer, 38, 9)
    QTest.keyClick(viewer.window._qt_viewer.canvas.native, Qt.Key_Escape)
    qtbot.wait(500)
    drawn = viewer.layers["Region"].data
    assert where.note.plain.startswith("5 of 16 tiles"), (where.note.plain, drawn)
    assert "of pixels" in where.note.plain
    assert widget.is_ready
    overlay = where.overlay.layer
    assert overlay.visible
    np.testing.assert_array_equal(np.asarray(overlay.data)[:2] == 1, [[1, 1, 1, 0], [1, 1, 0, 0]][:2])
    n_chosen = where.n_chosen

    click(qtbot, widget.preview.tile)
    until(lambda: "about" in where.note.plain)
    report = widget.preview.report
    assert "The 5 chosen of 16 tiles take about" in report.plain
    seconds = where.note.plain.rpartition("about ")[2].rstrip(".")
    assert f"about <b>{seconds}</b>" in report.plain
    until(lambda: widget.preview.brief.endswith(f"the run takes {seconds}"))

    where.inside.setCurrentIndex(where.inside.findData("clip"))
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    job = widget.control.job
    assert len(job.staged()) == job.n_chosen == n_chosen
    region = job.where.roi.mask(Box((0, 0), pixels.shape))
    shown = np.asarray(viewer.layers["blobs labels"].data)
    assert shown.any()
    assert not shown[~region].any()
    np.testing.assert_array_equal(shown, np.asarray(widget.control.merged.labels))

    # The region grows: the same job continues.
    layer = viewer.layers["Region"]
    layer.mode = "pan_zoom"
    layer.add_rectangles(np.array([[110, 5], [110, 120], [145, 120], [145, 5]]))
    until(lambda: where.n_chosen > n_chosen, 5)
    assert f"The {where.n_chosen} chosen of 16 tiles take about" in report.plain
    assert "The region changed. Run continues with it" in widget.running.change_note.text()
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and len(widget.control.job.staged()) == where.n_chosen)
    until(lambda: widget.control.merged is not None)
    again = widget.control.job
    assert (again.folder, again.spec.life) == (job.folder, job.spec.life)

    click(qtbot, widget.merging.write)
    until(lambda: widget.control.state == "written")
    assert widget.control.job.files.has_stage()
    result = np.asarray(widget.control.merged.labels)
    assert not result[~again.where.roi.mask(Box((0, 0), pixels.shape))].any()


def test_tiles_are_chosen_by_clicks_and_run(dock: Any, until: Any, qtbot: Any, tmp_path: Path) -> None:
    viewer, widget = dock
    where = widget.form.where
    where.pick.setChecked(True)
    assert where.source.currentText() == "Chosen tiles"
    assert "No tile is chosen yet" in where.note.text()
    for y, x in ((10, 10), (10, 50), (90, 120), (10, 50)):
        press_at(viewer, y, x)
        qtbot.wait(30)
    assert where.values() == {"where": [0, 15], "inside": "touching"}
    assert where.note.plain.startswith("2 of 16 tiles")
    assert "where=[0, 15]" in widget.copy_script("python")
    assert "--where tiles:0,15 --inside touching" in widget.copy_script("command")
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert widget.control.job.staged() == {0, 15}


def test_the_script_of_a_drawn_region_repeats_the_run(
    dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path
) -> None:
    viewer, widget = dock
    where = widget.form.where
    painted = np.zeros((100, 130), np.uint8)
    painted[10:40, 20:50] = 1
    viewer.add_labels(painted, name="mask", scale=(1, 1), translate=(0.25, 0.25))
    where.choose("mask")
    assert where.note.plain.startswith("4 of 16 tiles")
    wanted = np.zeros(pixels.shape, bool)
    wanted[20:80, 40:100] = True
    roi = where.values()["where"]
    assert isinstance(roi, Roi)
    np.testing.assert_array_equal(roi.mask(Box((0, 0), pixels.shape)), wanted)
    # With the brush.
    layer = viewer.layers["mask"]
    layer.paint((90, 120), 1)
    until(lambda: where.note.plain.startswith("5 of 16 tiles"), 5)
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    stored = Job.open(widget.control.job.folder)
    again = segment(
        pixels,
        get_model("voronoi-otsu", diameter=14),
        tmp_path / "again.ome.zarr",
        tile_shape=TILE,
        halo=HALO,
        where=stored.folder / "where.json",
        progress=False,
    )
    np.testing.assert_array_equal(np.asarray(again.labels), np.asarray(widget.control.merged.labels))
    assert f"where='{stored.folder / 'where.json'}'" in widget.copy_script("python")
    # A region that is taken away is the whole image again.
    viewer.layers.remove(layer)
    assert where.source.currentText() == "Everywhere"
    assert where.values() == {}


def test_tissue_and_empty_tiles_are_shown_before_a_run(open_dock: Any, until: Any, qtbot: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 20, (200, 260)).astype(np.uint16)
    image[20:90, 20:120] += 900
    image[150:, 195:] = 3
    viewer, widget = open_dock(image, name="slide")
    set_up(widget, tmp_path / "gui.ome.zarr", TILE, (0, 0), diameter=14)
    where = widget.form.where
    click(qtbot, where.tissue)
    until(lambda: "Tissue" in viewer.layers)
    assert isinstance(viewer.layers["Tissue"], Labels)
    assert where.note.plain.startswith("4 of 16 tiles")
    # A large mask is read in a thread.
    fine = np.zeros((2000, 2600), np.uint8)
    fine[1000:1200, 1000:1200] = 1
    viewer.add_labels(fine, name="fine", scale=(0.1, 0.1))
    where.choose("fine")
    assert where.note.text() == "Reading the region…"
    with pytest.raises(ValueError, match="still being read"):
        where.values()
    until(lambda: where.note.plain.startswith("1 of 16 tiles"), 5)
    assert where.values()["where"].bounds() == Box((100, 100), (120, 120))
    where.choose("Everywhere")
    assert where.overlay.layer is None
    where.skip.kind.setCurrentText("Tiles of one value")
    until(lambda: where.note.plain.startswith("15 of 16 tiles"))
    assert "1 tile of the image hold nothing" in where.note.plain
    where.skip.kind.setCurrentText("Tiles not above")
    where.skip.below.setValue(100)
    until(lambda: where.note.plain.startswith("4 of 16 tiles"))
    assert where.values() == {"skip_below": 100.0}
    np.testing.assert_array_equal(np.unique(where.overlay.layer.data), [1, 3])
