"""Use the merge inspector as a user does, and compare with the same decisions in the engine."""

from __future__ import annotations

import csv
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dock_actions import click, set_up
from inspector_actions import choose, settle
from qtpy.QtCore import Qt

from napari_blockbuster import Job
from napari_blockbuster.inspect.alarms import find_alarms
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.merge.links import one_object
from napari_blockbuster.output.label_image import open_labels


def test_a_session_is_kept_and_written_as_the_engine_says(
    inspected: Any, open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path
) -> None:
    viewer, widget, inspector = inspected
    settle(until, widget, lambda: widget.merging.rule.slider.setValue(30))
    assert widget.control.merged.min_iou == pytest.approx(0.3)
    cut = []
    for _ in range(3):
        choose(inspector, joined=True)
        cut.append(inspector.tabs.pair())
        settle(until, widget, lambda: click(qtbot, inspector.panel.decisions.cut))
    choose(inspector, joined=False, skip=5)
    joined = inspector.tabs.pair()
    assert joined not in cut
    settle(until, widget, lambda: click(qtbot, inspector.panel.decisions.join))
    settle(until, widget, lambda: click(qtbot, inspector.panel.decisions.undo))
    assert len(widget.control.decisions.applied) == 3
    settle(until, widget, lambda: click(qtbot, inspector.panel.decisions.redo))
    folder = widget.control.job.folder
    viewer.close()

    kept = Decisions.load(folder)
    assert set(kept.cut) == set(cut)
    assert kept.join == (joined,)
    viewer, widget = open_dock(pixels, name="blobs")
    widget.open_job(folder)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    settle(until, widget, lambda: widget.merging.rule.slider.setValue(30))
    click(qtbot, widget.merging.write)
    until(lambda: widget.control.state == "written")

    expected = Job.open(folder).merge(min_iou=0.3, cut=cut, join=[joined])
    plain = Job.open(folder).merge(min_iou=0.3)
    assert expected.n_objects != plain.n_objects or not np.array_equal(expected.new_ids, plain.new_ids)
    np.testing.assert_array_equal(open_labels(tmp_path / "gui.ome.zarr").compute(), expected.labels.compute())


def test_a_pair_is_shown_and_described(inspected: Any, until: Any) -> None:
    viewer, widget, inspector = inspected
    line = choose(inspector, joined=True)
    until(lambda: "Pair" in viewer.layers)
    seam = widget.control.merged.seams[inspector.tabs.pairs.model.row_at(line)]
    shown = np.asarray(viewer.layers["Pair"].data)
    assert set(np.unique(shown)) >= {1, 2}
    # The labels in the layer are those of the two tiles, at their place.
    job = widget.control.job
    offset = np.round(viewer.layers["Pair"].translate).astype(int)
    for number, side in ((1, "low"), (2, "high")):
        at = np.argwhere(shown == number)[0] + offset
        assert job.grid.tile_at(at).index == seam[side]
        local = job.store.labels[tuple(slice(v, v + 1) for v in at)].read().result().ravel()[0]
        assert local == seam[f"{side}_id"]
    assert "one object" in inspector.panel.said.text()
    np.testing.assert_allclose(viewer.scene.camera.center[1:], seam["position"], atol=1e-3)
    # A line of the seam lies between the last voxel of one core and the first of the other.
    start = np.asarray(viewer.layers["Seam"].data)[0, 0]
    assert start[seam["axis"]] == job.grid[int(seam["low"])].core.stop[seam["axis"]] - 0.5


def test_table_is_sorted_and_filtered(inspected: Any, until: Any) -> None:
    _, widget, inspector = inspected
    merged, pairs = widget.control.merged, inspector.tabs.pairs.model
    assert pairs.rowCount() == len(merged.seams)
    margins = [float(pairs.data(pairs.index(k, 3))) for k in range(pairs.rowCount())]
    assert margins == sorted(margins)
    inspector.tabs.pairs.table.sortByColumn(2, Qt.DescendingOrder)
    ious = [float(pairs.data(pairs.index(k, 2))) for k in range(pairs.rowCount())]
    assert ious == sorted(ious, reverse=True)
    inspector.tabs.pairs.filter.setCurrentText("joined")
    assert pairs.rowCount() == one_object(merged).sum()
    inspector.tabs.pairs.filter.setCurrentText("doubtful")
    inspector.tabs.pairs.band.setValue(0.1)
    few = pairs.rowCount()
    inspector.tabs.pairs.band.setValue(0.5)
    assert few < pairs.rowCount() <= len(merged.seams)
    assert " of " in inspector.tabs.pairs.count.text()


def test_keys_step_and_decide(inspected: Any, until: Any, qtbot: Any) -> None:
    viewer, widget, inspector = inspected
    inspector.tabs.step(1)
    assert inspector.tabs.pairs.table.currentIndex().row() == 0
    inspector.tabs.step(1)
    inspector.tabs.step(1)
    inspector.tabs.step(-1)
    assert inspector.tabs.pairs.table.currentIndex().row() == 1
    pair = inspector.tabs.pair()
    keys = {str(key): call for key, call in viewer.keymap.items()}
    settle(until, widget, lambda: keys["K"](viewer))
    assert widget.control.decisions.decision_on(pair) == "cut"
    # The same pair is still chosen, so that one can go on from it.
    assert inspector.tabs.pair() == pair
    line, pairs = inspector.tabs.pairs.table.currentIndex().row(), inspector.tabs.pairs.model
    assert pairs.data(pairs.index(line, 1)) == "cut"
    inspector.tabs.pairs.filter.setCurrentText("my decisions")
    assert [pairs.pair_at(k) for k in range(pairs.rowCount())] == [pair]
    inspector.tabs.pairs.filter.setCurrentText("all")
    settle(until, widget, lambda: keys["U"](viewer))
    assert widget.control.decisions.decision_on(pair) is None
    settle(until, widget, lambda: keys["Shift+U"](viewer))
    assert widget.control.decisions.decision_on(pair) == "cut"


def test_alarms_and_report_arrive(inspected: Any, until: Any) -> None:
    _, _, inspector = inspected
    until(lambda: inspector.tabs.report.text() != "")
    assert "halo" in inspector.tabs.report.text()
    until(lambda: "(" in inspector.tabs.tabText(1))


def test_clicking_two_objects_joins_them_and_a_cut_inside_a_tile_says_why_not(
    inspected: Any, until: Any, qtbot: Any
) -> None:
    _, widget, inspector = inspected
    job, merged = widget.control.job, widget.control.merged
    labels = job.store.labels[job.grid[0].core.slices].read().result()
    places = [np.argwhere(labels == number)[0] for number in (1, 2)]
    assert merged.table(0)[1] != merged.table(0)[2]
    click(qtbot, inspector.panel.picking.join)
    settle(until, widget, lambda: [inspector.picker.pick_at(place) for place in places])
    assert widget.control.merged.table(0)[1] == widget.control.merged.table(0)[2]
    assert not inspector.panel.picking.join.isChecked()

    said: list[str] = []
    inspector.picker.refused.connect(said.append)
    click(qtbot, inspector.panel.picking.cut)
    for place in (np.argwhere(labels == 3)[0], np.argwhere(labels == 3)[-1]):
        inspector.picker.pick_at(place)
    until(lambda: bool(said))
    assert "cuts are possible only at seams" in said[0]
    said.clear()
    background = np.argwhere(labels == 0)[0]
    inspector.picker.pick_at(background)
    until(lambda: bool(said))
    assert "no object" in said[0]


def test_csv_holds_every_pair_and_decision(inspected: Any, until: Any, qtbot: Any, tmp_path: Path) -> None:
    _, widget, inspector = inspected
    choose(inspector, joined=True)
    settle(until, widget, lambda: click(qtbot, inspector.panel.decisions.cut))
    inspector.save_csv(tmp_path / "pairs.csv")
    until((tmp_path / "pairs.csv").exists)
    rows = (tmp_path / "pairs.csv").read_text().splitlines()
    assert len(rows) == len(widget.control.merged.seams) + 1
    assert sum(",cut," in row for row in rows) == 1


def test_tiles_are_segmented_again_accepted_and_taken_back(
    inspected: Any, until: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, widget, inspector = inspected
    job = widget.control.job
    readers: list[threading.Thread] = []
    read = Path.read_bytes

    def noting(path: Path) -> bytes:
        if path.name == "again.json":
            readers.append(threading.current_thread())
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", noting)
    choose(inspector, joined=True)
    tiles = sorted({tile for tile, _ in inspector.tabs.pair()})
    before = {index: job.store.read_labels(job.grid[index]).result() for index in range(len(job.grid))}
    shown = np.asarray(viewer.layers["blobs labels"].data).copy()

    widget.model.settings.set_values({"diameter": 7})
    click(qtbot, inspector.panel.again.start)
    until(lambda: "Segmented again" in viewer.layers and widget.control.state == "staged")
    new = np.asarray(viewer.layers["Segmented again"].data)
    assert new.max() > sum(before[index].max() for index in tiles)
    np.testing.assert_array_equal(job.store.read_labels(job.grid[tiles[0]]).result(), before[tiles[0]])

    settle(until, widget, lambda: click(qtbot, inspector.panel.again.accept))
    assert "Segmented again" not in viewer.layers
    for index, labels in before.items():
        same = np.array_equal(job.store.read_labels(job.grid[index]).result(), labels)
        assert same == (index not in tiles)
    np.testing.assert_array_equal(
        np.asarray(viewer.layers["blobs labels"].data), widget.control.merged.labels.compute()
    )

    pairs = inspector.tabs.pairs.model
    line = next(k for k in range(pairs.rowCount()) if {tile for tile, _ in pairs.pair_at(k)} == set(tiles))
    inspector.tabs.pairs.table.selectRow(line)
    settle(until, widget, lambda: click(qtbot, inspector.panel.again.restore))
    np.testing.assert_array_equal(np.asarray(viewer.layers["blobs labels"].data), shown)
    assert not inspector.panel.again.restore.isEnabled()
    # The viewer never waits for a disk to know which tiles were segmented again.
    assert readers
    assert threading.main_thread() not in readers


def test_go_back_undoes_an_acceptance_as_a_whole(inspected: Any, until: Any, qtbot: Any) -> None:
    viewer, widget, inspector = inspected
    job = widget.control.job
    choose(inspector, joined=True)
    tiles = {tile for tile, _ in inspector.tabs.pair()}
    assert len(tiles) == 2
    before = widget.control.merged.labels.compute()
    widget.model.settings.set_values({"diameter": 7})
    click(qtbot, inspector.panel.again.start)
    until(lambda: "Segmented again" in viewer.layers and widget.control.state == "staged")
    settle(until, widget, lambda: click(qtbot, inspector.panel.again.accept))
    assert widget.control.again == tiles
    assert not np.array_equal(widget.control.merged.labels.compute(), before)

    def has_one(line: int) -> bool:
        return len({tile for tile, _ in inspector.tabs.pairs.model.pair_at(line)} & tiles) == 1

    # The selection moves to a pair of one of the two tiles with another tile.
    inspector.tabs.pairs.table.selectRow(next(k for k in range(inspector.tabs.pairs.model.rowCount()) if has_one(k)))
    settle(until, widget, lambda: click(qtbot, inspector.panel.again.restore))
    assert widget.control.again == frozenset()
    np.testing.assert_array_equal(widget.control.merged.labels.compute(), before)
    np.testing.assert_array_equal(np.asarray(viewer.layers["blobs labels"].data), before)
    assert not inspector.panel.again.restore.isEnabled()
    assert job.check().sound


def test_a_closed_inspector_leaves_nothing_and_comes_back(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path
) -> None:
    viewer, widget = open_dock(pixels, show=True, name="blobs")
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (24, 24), diameter=14)
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    inspector = widget.inspect()
    inspector.tabs.pairs.filter.setCurrentText("all")
    choose(inspector, joined=True)
    click(qtbot, inspector.panel.picking.join)
    until(lambda: "Pair" in viewer.layers)
    assert len(viewer.layers["Seams"].data) == inspector.tabs.pairs.model.rowCount()
    until(lambda: inspector.tabs.report.text() != "")
    assert not inspector.tabs.report.isVisible(), "the report is behind the list of pairs"

    inspector.parent().hide()
    assert not {"Seams", "Pair", "Seam"} & {layer.name for layer in viewer.layers}
    assert not inspector.panel.picking.join.isChecked()
    # No key decides on a pair that nobody sees.
    assert not {"J", "K", "U", "Shift+U"} & {str(key) for key in viewer.keymap}
    settle(until, widget, lambda: widget.merging.rule.slider.setValue(35))
    assert "Seams" not in viewer.layers

    click(qtbot, widget.merging.inspect)
    assert inspector.navigator.merged is widget.control.unfiltered
    assert len(viewer.layers["Seams"].data) == inspector.tabs.pairs.model.rowCount()
    until(lambda: "Pair" in viewer.layers)
    assert {"J", "K", "U", "Shift+U"} <= {str(key) for key in viewer.keymap}

    # The cross of the dock deletes the dock; the inspector is kept, and put into another.
    widget.merging.seams.setChecked(True)
    inspector.parent().destroyOnClose()
    qtbot.wait(100)
    assert "Pair" not in viewer.layers
    assert "Seams" in viewer.layers, "the rings of the dock's own checkbox"
    assert widget.inspect() is inspector
    until(lambda: inspector.isVisible() and "Pair" in viewer.layers)


def test_with_a_filter_alarms_and_report_are_about_the_objects_that_it_keeps(
    inspected: Any, until: Any, qtbot: Any, tmp_path: Path
) -> None:
    _, widget, inspector = inspected
    control, found = widget.control, []
    settle(until, widget, lambda: widget.merging.rule.choice.setCurrentText("none"))
    inspector.search.alarms_found.connect(found.append)
    settle(until, widget, lambda: widget.merging.filter.drop_border.setChecked(True))
    until(lambda: bool(found))
    until(lambda: not inspector.search.is_waiting)
    merged = control.merged
    assert merged.n_removed
    expected = [alarm.reason for alarm in find_alarms(merged, control.job.grid, control.job.store)]
    assert [alarm.reason for alarm in found[-1]] == expected
    assert expected
    assert expected != [
        alarm.reason for alarm in find_alarms(control.unfiltered, control.job.grid, control.job.store)
    ], "the filter matters here"

    # Pairs with what is left out stay in the list: joining them may bring an object back.
    seams = merged.seams
    low, high = (merged.new_ids[merged.labels_table.numbers(seams[s], seams[f"{s}_id"]) + 1] for s in ("low", "high"))
    gone = int(np.flatnonzero((low == 0) & (high == 0))[0])
    inspector.tabs.pairs.table.selectRow(inspector.tabs.pairs.model.line_of(gone))
    seam = seams[gone]
    first, second = (f"label {seam[f'{s}_id']} of tile {seam[s]}" for s in ("low", "high"))
    assert f"The object filter excludes {first} and {second}." in inspector.panel.said.text()
    inspector.save_csv(tmp_path / "pairs.csv")
    until((tmp_path / "pairs.csv").exists)
    with (tmp_path / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["one_object"] for row in rows] == [str(int(same)) for same in (low == high) & (low > 0)]
