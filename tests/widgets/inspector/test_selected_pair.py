"""The selected pair: keys, clicks and replaced tiles never act on a pair that nobody sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from dock_actions import click, set_up
from inspector_actions import choose, settle
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_blockbuster.widgets.inspector.keys import KEYS


def test_keys_work_wherever_the_focus_is_in_the_inspector(inspected: Any, until: Any) -> None:
    _, widget, inspector = inspected
    pairs, decisions = inspector.tabs.pairs, inspector.panel.decisions
    line = choose(inspector, joined=False)
    pair = inspector.tabs.pair()
    # A list would look for a line that begins with J, a number field would take the letter, a button would ignore it.
    for place, key, decision in (
        (pairs.table, Qt.Key_J, "join"),
        (pairs.filter, Qt.Key_K, "cut"),
        (pairs.band, Qt.Key_U, "join"),
        (decisions.undo, Qt.Key_U, None),
    ):
        settle(until, widget, lambda place=place, key=key: QTest.keyClick(place, key))
        assert widget.control.decisions.decision_on(pair) == decision
        assert inspector.tabs.pair() == pair
    QTest.keyClick(pairs.table, Qt.Key_N)
    assert pairs.table.currentIndex().row() == line + 1
    QTest.keyClick(inspector.tabs.alarms, Qt.Key_N, Qt.ShiftModifier)
    assert pairs.table.currentIndex().row() == line
    # Other keys stay with the list.
    QTest.keyClick(pairs.table, Qt.Key_Down)
    assert pairs.table.currentIndex().row() == line + 1


def test_keys_after_a_real_click_on_a_row_and_over_the_canvas(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path
) -> None:
    viewer, widget = open_dock(pixels, show=True, name="blobs")
    window = viewer.window._qt_window
    window.resize(1366, 768)
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (24, 24), diameter=14)
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    inspector = widget.inspect()
    panel, pairs, merging = inspector.panel, inspector.tabs.pairs, widget.merging
    # The inspector does not grow the window, and everything that is needed beside it is on the screen.
    until(lambda: pairs.table.viewport().height() >= 5 * pairs.table.verticalHeader().defaultSectionSize(), 5)
    for button in (panel.decisions.undo, panel.again.accept, merging.seams, merging.inspect, merging.table):
        until(lambda button=button: button.visibleRegion().boundingRect().size() == button.size(), 5)
    assert window.height() <= 768
    window.activateWindow()
    pairs.filter.setCurrentText("all")
    table = pairs.table
    row = table.visualRect(pairs.model.index(0, 2)).center()
    qtbot.mouseClick(table.viewport(), Qt.LeftButton, pos=row)
    until(lambda: "Pair" in viewer.layers)
    pair = inspector.tabs.pair()
    assert pair == pairs.model.pair_at(0)
    assert window.isAncestorOf(QApplication.focusWidget())
    settle(until, widget, lambda: QTest.keyClick(QApplication.focusWidget(), Qt.Key_J))
    assert widget.control.decisions.decision_on(pair) == "join"
    # Over the canvas, whichever layer is selected: napari takes keys of the layer first.
    canvas = viewer.window._qt_viewer.canvas.native
    for layer in ("blobs", "blobs labels", "Pair", "Seams"):
        viewer.layers.selection.active = viewer.layers[layer]
        canvas.setFocus()
        settle(until, widget, lambda: QTest.keyClick(canvas, Qt.Key_K))
        assert widget.control.decisions.decision_on(pair) == "cut"
        settle(until, widget, lambda: QTest.keyClick(canvas, Qt.Key_U))
        assert widget.control.decisions.decision_on(pair) == "join"


def test_a_small_window_grows_for_the_inspector(open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray) -> None:
    viewer, widget = open_dock(pixels, show=True, name="blobs")
    window = viewer.window._qt_window
    # As napari opens it.
    window.resize(1089, 687)
    qtbot.wait(50)
    table = widget.inspect().tabs.pairs.table
    until(lambda: table.viewport().height() >= 5 * table.verticalHeader().defaultSectionSize(), 5)
    assert window.width() == 1089
    assert window.frameGeometry().bottom() <= window.screen().availableGeometry().bottom()


def test_no_key_is_one_of_napari() -> None:
    taken = {str(key).lower() for keys in default_shortcuts.values() for key in keys}
    assert "c" in taken
    assert not taken & {key.replace("-", "+").lower() for key in KEYS}


def test_an_empty_list_says_why_and_a_far_join_is_listed(inspected: Any, until: Any, qtbot: Any) -> None:
    viewer, widget, inspector = inspected
    pairs, model = inspector.tabs.pairs, inspector.tabs.pairs.model
    assert pairs.note.text() == ""
    pairs.filter.setCurrentText("my decisions")
    assert model.rowCount() == 0
    assert "not decided on a pair yet" in pairs.note.text()
    pairs.band.setValue(0.01)
    pairs.filter.setCurrentText("doubtful")
    assert (pairs.note.text() == "") == (model.rowCount() > 0)
    # Both clicks are acknowledged, the first one also on the image.
    job = widget.control.job
    labels = job.store.labels[job.grid[0].core.slices].read().result()
    places = [np.argwhere(labels == number)[0] for number in (1, 2)]
    note = inspector.panel.picking.note
    click(qtbot, inspector.panel.picking.join)
    assert note.text() == "Click the first object."
    inspector.picker.pick_at(places[0])
    until(lambda: "Click the second object" in note.text())
    until(lambda: "Pair" in viewer.layers)
    shown = np.asarray(viewer.layers["Pair"].data)
    assert (shown == 1).sum() == (labels == 1).sum()
    settle(until, widget, lambda: inspector.picker.pick_at(places[1]))
    assert note.text() == "Joined label 1 of tile 0 and label 2 of tile 0."
    pairs.filter.setCurrentText("my decisions")
    assert [model.pair_at(k) for k in range(model.rowCount())] == [((0, 1), (0, 2))]
    assert [model.data(model.index(0, k)) for k in (0, 1, 2, 3, 5, 6)] == ["joined", "join", "–", "–", "0 | 0", "1 | 2"]
    # One click deletes an object, and undo brings it back.
    before = widget.control.merged.n_objects
    click(qtbot, inspector.panel.picking.remove)
    assert note.text() == "Click the object to delete."
    place = tuple(places[0])
    settle(until, widget, lambda: inspector.picker.pick_at(places[0]))
    assert note.text().startswith("Deleted an object of ")
    assert widget.control.merged.n_objects == before - 1
    assert np.asarray(viewer.layers["blobs labels"].data)[place] == 0
    settle(until, widget, lambda: click(qtbot, inspector.panel.decisions.undo))
    assert np.asarray(viewer.layers["blobs labels"].data)[place] > 0
    click(qtbot, inspector.panel.picking.remove)
    assert note.text() == ""
    # A click on its line flies to it, and draws both labels.
    inspector.tabs.choose(None)
    inspector.navigator.forget_pair()
    viewer.scene.camera.center = (150, 150)
    pairs.table.selectRow(0)
    until(lambda: "Pair" in viewer.layers and viewer.scene.camera.center[1] < 64)
    assert set(np.unique(viewer.layers["Pair"].data)) == {0, 1, 2}
    assert "are <b>one object</b>. Your decision: join." in inspector.panel.said.text()
    # A pair at a seam says how its margin comes about.
    pairs.filter.setCurrentText("separate")
    pairs.table.selectRow(0)
    assert "Agreement" in inspector.panel.said.text()
    assert "margin" in inspector.panel.said.text()


def test_a_pair_stays_selected_when_the_list_no_longer_shows_it(inspected: Any, until: Any) -> None:
    _, widget, inspector = inspected
    pairs = inspector.tabs.pairs
    choose(inspector, joined=True, skip=2)
    pair = inspector.tabs.pair()
    pairs.table.sortByColumn(4, Qt.DescendingOrder)
    assert pairs.model.pair_at(pairs.table.currentIndex().row()) == pair
    pairs.filter.setCurrentText("joined")
    line = pairs.table.currentIndex().row()
    assert pairs.model.pair_at(line) == pair
    following = pairs.model.pair_at(line + 1)
    settle(until, widget, lambda: QTest.keyClick(pairs.table, Qt.Key_K))
    if not pairs.table.currentIndex().isValid():
        # It left the list of joined pairs. Nothing else is selected in its place.
        assert inspector.tabs.pair() == pair
        assert "Your decision: cut" in inspector.panel.said.text()
        QTest.keyClick(pairs.table, Qt.Key_N)
        assert inspector.tabs.pair() == following


def test_replaced_tiles_leave_no_pair_selected_and_say_what_changed(inspected: Any, until: Any, qtbot: Any) -> None:
    viewer, widget, inspector = inspected
    again, note = inspector.panel.again, inspector.panel.again.note
    choose(inspector, joined=False)
    pair = inspector.tabs.pair()
    settle(until, widget, lambda: click(qtbot, inspector.panel.decisions.join))
    said: set[str] = set()
    inspector.again.said.connect(said.add)
    widget.model.settings.set_values({"diameter": 7})
    click(qtbot, again.start)
    until(lambda: "Segmented again" in viewer.layers and widget.control.state == "staged")
    assert any(text.startswith("Segmenting 2 tiles again") for text in said)
    assert "labels before" in note.text()
    live = viewer.layers["blobs labels"]
    assert not live.visible, "the old labels would shine through the new ones"

    settle(until, widget, lambda: click(qtbot, again.accept))
    assert live.visible
    assert "1 decision set aside" in note.text()
    assert f"{widget.control.merged.n_objects:,} now" in note.text()
    assert inspector.tabs.pair() is None
    assert "Pair" not in viewer.layers
    assert not inspector.panel.decisions.cut.isEnabled()
    QTest.keyClick(inspector.tabs.pairs.table, Qt.Key_K)
    assert widget.control.decisions.cut == ()
    settle(until, widget, lambda: click(qtbot, again.restore))
    assert "1 decision applied again" in note.text()
    assert widget.control.decisions.join == (pair,)


def test_a_cut_of_one_of_several_links_offers_the_others(
    open_dock: Any, until: Any, qtbot: Any, tmp_path: Path
) -> None:
    image = np.zeros((120, 120), np.uint16)
    image[20:100, 20:100] = 1000
    image[5:10, 5:10] = 1000
    _, widget = open_dock(image, name="square")
    widget.model.choice.setCurrentText("threshold")
    set_up(widget, tmp_path / "gui.ome.zarr", (60, 60), (20, 20))
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    click(qtbot, widget.merging.inspect)
    inspector, control = widget.inspector, widget.control
    pairs, panel = inspector.tabs.pairs, inspector.panel
    pairs.filter.setCurrentText("all")
    store = control.job.store
    big = [int(store.labels[y : y + 1, x : x + 1].read().result().max()) for y, x in ((50, 50), (50, 70))]
    pair = (0, big[0]), (1, big[1])
    pairs.table.selectRow(pairs.model.line_of(control.merged.row_of(pair)))
    settle(until, widget, lambda: click(qtbot, panel.decisions.cut))
    text = panel.said.text()
    assert "one object" in text
    assert "Your decision: cut. Other labels still connect them, through tiles 2 and 3." in text
    line = pairs.table.currentIndex().row()
    assert pairs.model.data(pairs.model.index(line, 0)) == "via others"
    # Its ring has the color of a joined pair.
    row = control.merged.row_of(pair)
    rings = control.view.seams
    number = int(np.flatnonzero(pairs.model.rows == row)[0])
    assert rings.features["decision"].iloc[number] == "joined"

    # The same pair by two clicks: it is described again, with the same offer.
    pairs.choose(None)
    click(qtbot, panel.picking.cut)
    refused: list[str] = []
    inspector.picker.refused.connect(refused.append)
    for place in ((50, 50), (50, 70)):
        inspector.picker.pick_at(np.array(place))
    until(lambda: not panel.picking.cut.isChecked())
    assert refused == []
    assert inspector.tabs.pair() == pair
    assert "through tiles 2 and 3" in panel.said.text()

    settle(until, widget, lambda: click(qtbot, panel.decisions.cut_rest))
    assert "two objects" in panel.said.text()
    assert not panel.decisions.cut_rest.isVisibleTo(panel)
    assert pairs.model.data(pairs.model.index(line, 0)) == "separate"
    settle(until, widget, lambda: click(qtbot, panel.decisions.undo))
    assert control.decisions.cut == (pair,)

    # A join by two clicks is confirmed in the panel, whatever was selected before.
    click(qtbot, panel.picking.join)
    places = [np.array(place) for place in ((7, 7), (70, 70))]
    settle(until, widget, lambda: [inspector.picker.pick_at(place) for place in places])
    (low, _), (high, _) = inspector.tabs.pair()
    assert (low, high) == (0, 3)
    assert "are <b>one object</b>. Your decision: join." in panel.said.text()
