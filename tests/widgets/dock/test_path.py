"""The dock as a path: one step open, the footer in sight, few clicks, and the keyboard and the wheel do what is expected."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dock_actions import click, set_up, use_function
from front_door import PLUGIN, choose, find_button, press, see_dock, unfold
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractSlider, QAbstractSpinBox, QApplication, QComboBox, QScrollBar, QWidget

from napari_blockbuster.widgets.choices.image_section import NO_IMAGE
from napari_blockbuster.widgets.controls import Section


def in_sight(widget: Any) -> bool:
    """Whether all of a widget is on the screen."""
    return widget.isVisible() and widget.visibleRegion().boundingRect().size() == widget.size()


def test_from_a_fresh_viewer_to_written_labels(viewer: Any, until: Any) -> None:
    window = viewer.window._qt_window
    window.resize(1366, 768)
    # Three clicks: the menu, its submenu and the entry.
    choose(viewer, PLUGIN)
    clicks = 3
    widget = see_dock(viewer).inner_widget()
    until(lambda: widget.isVisible())
    assert widget.image.note.plain == NO_IMAGE
    assert not widget.running.main.isEnabled()
    assert widget.running.footer.reason.plain == "Choose an image first."
    path, running = widget.form.path, widget.running

    def go(text: str) -> None:
        nonlocal clicks
        clicks += 1
        # Nothing is opened by the test: each button is in sight when it is needed.
        button = find_button(widget, text)
        until(lambda: button.isEnabled() and in_sight(button))
        assert in_sight(running.main)
        assert window.height() <= 768
        QTest.mouseClick(button, Qt.LeftButton)

    go("Open the sample")
    until(lambda: path.current is widget.model)
    assert widget.image.brief == "nuclei, 0.29 × 0.26 × 0.26 µm"
    assert widget.model.brief == "voronoi-otsu, diameter 40"
    go("Preview these settings")
    until(lambda: "Preview" in viewer.layers and path.current is widget.preview)
    assert widget.preview.brief.partition(";")[0].endswith("objects")
    go("Run")
    until(lambda: widget.control.state == "staging" and in_sight(running.bar) and path.current is running)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    until(lambda: path.current is widget.merging)
    go("Write merged labels")
    until(lambda: widget.control.state == "written")
    assert widget.control.result.n_objects > 10
    assert clicks <= 8
    # One step is open, the others are lines with their values.
    assert sum(section.isVisible() for section in path.sections) == 1
    assert widget.merging.brief == f"{widget.control.result.n_objects} objects. Written."
    _wheel(widget)
    _tab(widget)


def _wheel(widget: Any) -> None:
    """Turn the wheel over every field of every step: nothing changes without the focus."""
    kinds = (QAbstractSpinBox, QComboBox, QAbstractSlider)
    n_fields = 0
    for section in widget.form.path.sections:
        unfold(section)
        for fold in (widget.tiles, widget.running.cluster_fields.workers):
            unfold(fold) if section.isAncestorOf(fold) else None
        widget.running.main.setFocus()
        for field in [f for kind in kinds for f in section.findChildren(kind) if not isinstance(f, QScrollBar)]:
            if not field.isVisible():
                continue
            before = field.currentText() if isinstance(field, QComboBox) else field.value()
            where = QPointF(field.rect().center())
            for turn in (-120, 120, -120):
                event = QWheelEvent(
                    where,
                    QPointF(field.mapToGlobal(field.rect().center())),
                    QPoint(),
                    QPoint(0, turn),
                    Qt.NoButton,
                    Qt.NoModifier,
                    Qt.NoScrollPhase,
                    False,
                )
                QApplication.sendEvent(field, event)
            assert (field.currentText() if isinstance(field, QComboBox) else field.value()) == before, field
            assert not field.hasFocus()
            n_fields += 1
    assert n_fields > 15


def _tab(widget: Any) -> None:
    """Walk through the steps with Tab: the focus goes down the dock, and through every field."""
    for section, wanted in (
        (widget.model, [widget.model.settings.fields[name].native for name in ("diameter", "threshold")]),
        (widget.preview, [*widget.tiles.tile.spins.values(), *widget.tiles.halo.spins.values()]),
    ):
        unfold(section)
        unfold(widget.tiles) if section is widget.preview else None
        widget.form.path.sections[0].opener.setFocus()
        visited: list[QWidget] = []
        window = widget.window()
        while window.focusWidget() is not widget.running.main:
            visited.append(window.focusWidget())
            assert len(visited) < 60
            QTest.keyClick(visited[-1], Qt.Key_Tab)
        tops = [w.mapTo(widget.form.path, QPoint(0, w.height() // 2)).y() for w in visited]
        assert all(b >= a - 10 for a, b in pairwise(tops)), tops
        places = [visited.index(field) for field in wanted]
        assert places == sorted(places)
    # Enter opens a step, as Space does.
    opener = widget.image.opener
    opener.setFocus()
    QTest.keyClick(opener, Qt.Key_Return)
    assert widget.form.path.current is widget.image
    opener.setFocus()
    QTest.keyClick(opener, Qt.Key_Space)
    assert widget.form.path.current is None


def test_a_step_can_be_added_after_the_image(open_dock: Any) -> None:
    _, widget = open_dock()
    section = Section("Extra")
    widget.form.add_section(section)
    section.say_brief("everywhere")
    assert [each.title for each in widget.form.path.sections][:2] == ["Image", "Extra"]
    assert [each.opener.number for each in widget.form.path.sections][:3] == [1, 2, 3]
    assert section.opener.toolTip() == "everywhere"
    widget.form.path.open(section)
    assert widget.form.path.current is section


def test_the_tour_leads_over_the_sample(viewer: Any, until: Any, scheduler: str) -> None:
    choose(viewer, PLUGIN)
    widget = see_dock(viewer).inner_widget()
    until(lambda: widget.isVisible())
    widget.running.cluster_fields.address.setText(scheduler)
    press(find_button(widget, "Take the tour"))
    tour, control = widget.tour, widget.control
    seen = []

    def look(place: int, target: Any) -> None:
        until(lambda: tour.place == place and tour.bubble.isVisible())
        until(lambda: in_sight(target) and tour.bubble.next.isEnabled())
        bubble, window = tour.bubble, widget.window()
        assert window.rect().contains(bubble.geometry())
        # The tip of the arrow is at the height of the button, beside the dock.
        at = target.mapTo(window, QPoint(0, target.height() // 2)).y()
        assert abs(bubble.y() + bubble._tip - at) <= 20
        assert not bubble.isModal()
        seen.append(bubble.title.text())

    look(0, widget.image.opener)
    press(tour.bubble.next)
    look(1, widget.model.settings.fields["diameter"].native)
    press(tour.bubble.next)
    # Next presses the button, and waits for what it does.
    look(2, widget.preview.tile)
    press(tour.bubble.next)
    look(3, widget.running.main)
    assert "Preview" in viewer.layers
    # The user may press it, too.
    press(widget.running.main)
    look(4, widget.merging.inspect)
    assert control.state == "staged"
    press(tour.bubble.next)
    look(5, widget.merging.write)
    assert tour.bubble.next.text() == "Finish"
    press(tour.bubble.next)
    assert tour.bubble is None
    assert [title[:6] for title in seen] == [f"{i} of 6" for i in range(1, 7)]
    # Nothing was written by the tour.
    assert control.state == "staged"
    press(find_button(widget, "Take the tour"))
    press(tour.bubble.close_button)
    assert tour.bubble is None
    assert sum(layer.name.startswith("nuclei") and "labels" not in layer.name for layer in viewer.layers) == 1


def test_two_images_two_runs(open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path) -> None:
    viewer, widget = open_dock(pixels, name="one")
    control, jobs = widget.control, widget.jobs

    def lines() -> list[str]:
        return [jobs.list.item(i).text().strip("▸ ") for i in range(jobs.list.count())]

    def run(name: str) -> None:
        set_up(widget, tmp_path / f"{name}.labels.ome.zarr", (100, 130), (16, 16), diameter=14)
        click(qtbot, widget.running.main)
        until(lambda: control.state == "staged" and control.merged is not None)

    run("one")
    assert jobs.isHidden()
    viewer.add_image(pixels[::-1].copy(), name="two")
    widget.image.choice.value = viewer.layers["two"]
    until(lambda: widget.image.source is not None)
    run("two")
    assert not jobs.isHidden()
    assert lines() == ["one: segmented", "two: segmented"]
    shown = [layer.name for layer in viewer.layers if layer.visible]
    assert sum(name.startswith("Tiles") for name in shown) <= 1
    assert "one labels" not in shown
    # A click on the line of the first run brings it back with its layers.
    item = jobs.list.item(0)
    qtbot.mouseClick(jobs.list.viewport(), Qt.LeftButton, pos=jobs.list.visualItemRect(item).center())
    until(lambda: control.job is not None and control.job.folder.name.startswith("one") and control.state == "staged")
    until(lambda: control.merged is not None)
    assert "one labels" in [layer.name for layer in viewer.layers if layer.visible]
    assert jobs.list.item(0).text().startswith("▸ one")
    assert widget.form.path.current is widget.merging
    # A run that is deleted leaves the list.
    folder = control.job.folder
    control.discard()
    until(lambda: not folder.exists() and jobs.list.count() == 1)


def test_a_scheduler_that_does_not_answer_is_reported_soon(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path
) -> None:
    _, widget = open_dock(pixels, name="blobs")
    set_up(widget, tmp_path / "gui.ome.zarr", (100, 130), (16, 16), diameter=14)
    # An address of the documentation network: packets to it vanish.
    widget.running.cluster_fields.address.setText("tcp://192.0.2.1:8786")
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staging")
    began = time.monotonic()
    until(lambda: "No dask scheduler answers at tcp://192.0.2.1:8786" in widget.running.problem.plain, 20)
    assert time.monotonic() - began < 6
    assert "Segmenting" not in widget.running.status.plain
    assert widget.running.main.text() == "Resume"


def test_the_activity_dock_follows_a_run_and_cancels_it(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, write_function: Any
) -> None:
    from napari._qt.widgets.qt_progress_bar import QtLabeledProgressBar

    source = write_function(
        "time.sleep(0.15)\nassert tile.shape[0] > 50, 'too thin'\nreturn ndimage.label(tile > 800)[0]"
    )
    viewer, widget = open_dock(pixels, name="blobs")
    use_function(widget, source)
    # The tiles of the last row are 8 pixels thin, and fail.
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (0, 0))
    dialog = viewer.window._qt_window._activity_dialog

    def bars() -> list[Any]:
        return [bar for bar in dialog.findChildren(QtLabeledProgressBar) if not bar.isHidden()]

    click(qtbot, widget.running.main)
    values: set[int] = set()

    def moved() -> bool:
        values.update(bar.qt_progress_bar.value() for bar in bars())
        return len(values) >= 3

    until(moved)
    assert len(bars()) == 1
    assert bars()[0].description_label.text().startswith("gui.ome.zarr")
    bars()[0].cancel_button.click()
    until(lambda: widget.control.state == "paused" and not bars(), 10)
    done = len(widget.control.job.staged())
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert not bars()
    failed = len(widget.control.failures)
    assert done < 20
    assert failed == 5
    assert widget.running.status.plain.count("5 of 20 tiles failed") == 1
    # The failed tiles are listed with their tracebacks, in the step that is open now.
    assert widget.form.path.current is widget.running
    assert widget.running.failed.count() == 5
    assert "Traceback" in widget.running.failed.item(0).toolTip()
    assert widget.running.brief == "5 tiles failed"


@pytest.mark.parametrize("text", ["", "1 worker"])
def test_folded_settings_say_their_values(open_dock: Any, text: str) -> None:
    _, widget = open_dock(own_cluster=not text)
    fields = widget.running.cluster_fields
    fields.address.setText("" if text else "tcp://host:8786")
    fields.workers.setValue(1)
    assert fields.fold.text() == f"More: {text or 'tcp://host:8786'}"


def test_a_run_that_stops_early_lists_its_failed_tiles(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, write_function: Any
) -> None:
    _, widget = open_dock(pixels, name="blobs")
    use_function(widget, write_function("raise RuntimeError('lost the reagent')"))
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (0, 0))
    running = widget.running
    click(qtbot, running.main)
    until(lambda: widget.control.state == "paused")
    assert running.failed.count() >= 1
    assert widget.form.path.current is running
    assert "lost the reagent" in running.failed.item(0).text()
    assert "Traceback" in running.failed.item(0).toolTip()
    assert f"{running.failed.count()} failed" in running.status.plain
    assert "Segmenting" not in running.status.plain
