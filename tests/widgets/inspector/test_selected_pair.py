"""The selected pair: keys, clicks and replaced tiles never act on a pair that nobody sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from dock_actions import click, set_up
from inspector_actions import choose, settle
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest


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
