"""The table of a job follows the threshold, cuts and joins, and never makes a table in the GUI thread."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dock_actions import click, set_up
from inspector_actions import settle

from napari_blockbuster.job.job import Job


@pytest.fixture
def listed(open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path) -> tuple[Any, Any, Any]:
    """Viewer, dock and table of a job that is staged and merged."""
    viewer, widget = open_dock(pixels, name="blobs", scale=(0.5, 0.5))
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (24, 24), diameter=14)
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    click(qtbot, widget.merging.table)
    from napari_blockbuster.widgets.table.opening import find_table

    table = find_table(viewer)
    table.follower.pause(False)
    until(lambda: table.content is not None and len(table.content) == widget.control.merged.n_objects)
    return viewer, widget, table


def labels_of(widget: Any) -> np.ndarray:
    return np.asarray(widget.control.view.live.levels[0])


def check(widget: Any, table: Any) -> None:
    """The table equals a count of the labels on the screen."""
    labels = labels_of(widget)
    found = table.content.frame
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    assert found["label"].tolist() == ids.tolist()
    assert found["area"].tolist() == counts.tolist()


def test_the_table_follows_threshold_cuts_and_colors(listed: Any, until: Any, monkeypatch: Any) -> None:
    _, widget, table = listed
    threads = set()
    plain = Job.table
    monkeypatch.setattr(Job, "table", lambda *a, **k: (threads.add(threading.current_thread()), plain(*a, **k))[1])
    check(widget, table)
    table.bar.color.setCurrentText("area")
    until(lambda: table.painter.colors.is_shown)
    n, merged = len(table.content), widget.control.merged

    def follows() -> bool:
        return len(table.content) == widget.control.merged.n_objects and not table.follower._work.is_busy

    settle(until, widget, lambda: widget.merging.rule.choice.setCurrentText("none"))
    until(lambda: follows() and len(table.content) > n)
    check(widget, table)
    until(lambda: not table.painter._coloring.is_busy)
    shown = np.nan_to_num(np.asarray(table.painter.colors.layer.data))
    labels = labels_of(widget)
    areas = np.bincount(labels.ravel())
    np.testing.assert_array_equal(shown, np.where(labels > 0, areas[labels], 0))
    settle(until, widget, lambda: widget.merging.rule.choice.setCurrentText("overlap"))
    until(lambda: follows() and len(table.content) == n)
    row = int(np.flatnonzero(merged.joined)[0])
    seam = merged.seams[row]
    pair = (int(seam["low"]), int(seam["low_id"])), (int(seam["high"]), int(seam["high_id"]))
    settle(until, widget, lambda: widget.control.decide([pair], "cut"))
    until(lambda: follows() and len(table.content) > n)
    check(widget, table)
    settle(until, widget, widget.control.undo)
    until(lambda: follows() and len(table.content) == n)
    assert threads
    assert threading.main_thread() not in threads


def test_a_row_of_the_job_flies_to_its_object(listed: Any, until: Any) -> None:
    viewer, widget, table = listed
    row = int(table.content.column("area").argmax())
    table.objects.choose(row)
    place = table.content.place_of(row)
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], place * 0.5)
    assert widget.control.view.labels.selected_label == table.content.labels[row]
    y, x = np.argwhere(labels_of(widget) == table.content.labels[0])[0]
    table.clicks.pick_at(widget.control.view.labels.data_to_world((y, x)))
    assert table.objects.current_row() == 0


def test_painted_layers_are_no_images_to_segment(listed: Any, until: Any) -> None:
    viewer, widget, table = listed
    table.bar.color.setCurrentText("area")
    table.objects.choose(0)
    until(lambda: table.painter.colors.is_shown and table.painter.selection.is_shown)
    assert [layer.name for layer in widget.image._images()] == ["blobs"]
    assert widget.image.layer.name == "blobs"
    layers = viewer.layers
    assert layers.index(table.painter.selection.layer) == layers.index(table.painter.colors.layer) + 1


def test_only_objects_in_a_range_are_kept_until_that_is_undone(listed: Any, until: Any, qtbot: Any) -> None:
    _, widget, table = listed
    n = len(table.content)
    limit = float(np.median(table.content.column("area")))

    def enter(text: str) -> None:
        table.objects.filter.setText(text)
        table.objects.apply_filter()
        until(lambda: table.objects.expression == text and not table.objects._work.is_busy)

    enter(f"area > {limit} or area < 3")
    table.bar.keep.click()
    assert "Only ranges can be kept" in table.note.plain
    enter(f"area > {limit} and circularity > 0.1")
    kept = table.objects.model.rowCount()
    assert 0 < kept < n
    settle(until, widget, table.bar.keep.click)
    until(lambda: len(table.content) == widget.control.merged.n_objects == kept)
    check(widget, table)
    assert table.content.column("area").min() > limit
    assert table.objects.filter.text() == ""
    assert "Only objects with area ≥" in widget.merging.filter.columns._said.text()
    assert "ranges" in widget.control.merged.filter.settings()
    assert not table.bar.undo.isHidden()
    settle(until, widget, table.bar.undo.click)
    until(lambda: len(table.content) == n)
    assert table.bar.undo.isHidden()
    assert widget.merging.filter.columns.isHidden()
