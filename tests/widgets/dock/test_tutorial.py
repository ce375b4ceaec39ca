"""Every step of the tutorial, through napari's menus and with the mouse and the keyboard."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from front_door import PLUGIN, choose, find_action, find_button, press, press_key, see_dock, texts, type_number
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_blockbuster.widgets.run.section import LABELS as RUN_LABELS

TUTORIAL = Path(__file__).parents[3] / "docs" / "tutorial-napari.md"


def test_every_step_of_the_tutorial(viewer: Any, until: Any) -> None:
    viewer.window._qt_window.resize(1366, 768)
    # 1. Open an image and the dock
    choose(viewer, "File > Open Sample > Blockbuster > Nuclei in 3D")
    choose(viewer, PLUGIN)
    widget = see_dock(viewer).inner_widget()
    until(lambda: widget.image.source is not None and widget.isVisible())
    assert "60 × 256 × 256" in widget.image.note.text()
    # 2. Choose a model
    assert widget.model.choice.currentText() == "voronoi-otsu"
    type_number(widget.model.settings.fields["diameter"].native, 40)
    # 3. Tiles and halo
    for axis, tile, halo in (("z", 60, 0), ("y", 128, 24), ("x", 128, 24)):
        type_number(widget.tiles.tile.spins[axis], tile)
        type_number(widget.tiles.halo.spins[axis], halo)
    press(find_button(widget, "Tile outline"))
    press(find_button(widget, "Grid"))
    assert {"Tile and halo", "Tile grid"} <= {layer.name for layer in viewer.layers}
    # 4. Preview one tile
    until(lambda: widget.preview.tile.isEnabled())
    press(find_button(widget, "Preview tile (T)"))
    until(lambda: "Preview" in viewer.layers)
    assert all(word in widget.preview.report.text() for word in ("objects", "All 4 tiles", "on disk"))
    if find_button(widget, "Keep to compare").isEnabled():
        press(find_button(widget, "Keep to compare"))
    press_key(viewer, Qt.Key_T)
    until(lambda: "Preview" in viewer.layers)
    press(find_button(widget, "Use this halo"))
    assert widget.tiles.halo.values[1] > 24
    press(find_button(widget, "Preview again when a setting changes"))
    before = widget.preview.report.text()
    type_number(widget.model.settings.fields["diameter"].native, 30)
    until(lambda: widget.preview.report.text() != before)
    press(find_button(widget, "Preview again when a setting changes"))
    press(find_button(widget, "Preview seam"))
    until(lambda: "Seam: merged" in viewer.layers)
    # 5. Run
    press(find_button(widget, "Run"))
    until(lambda: widget.control.state == "staging")
    main = widget.running.main
    until(lambda: main.text() == "Pause" and main.isEnabled() and widget.control.job is not None)
    assert viewer.layers["Tiles"].visible
    said: set[str] = set()
    until(lambda: said.add(widget.running.status.text()) or any(">dask dashboard<" in text for text in said))
    if main.text() == "Pause":
        press(main)
    until(lambda: widget.control.state in ("paused", "staged"))
    if widget.control.state == "paused":
        press(main)
    control = widget.control
    until(lambda: control.state == "staged" and control.merged is not None, 120)
    _merge_inspect_write(viewer, until, widget)


def _merge_inspect_write(viewer: Any, until: Any, widget: Any) -> None:
    control = widget.control

    def rest() -> None:
        QTest.qWait(50)
        until(lambda: control.state in ("staged", "written"))

    # 6. Merge, inspect, write
    assert control.merged.n_objects > 10
    widget.merging.rule.slider.setFocus()
    for _ in range(5):
        QTest.keyClick(widget.merging.rule.slider, Qt.Key_Right)
    until(lambda: control.merged.min_iou == pytest.approx(widget.merging.rule.slider.value() / 100))
    rest()
    n = control.merged.n_objects
    press(find_button(widget, "Exclude objects touching the image border"))
    until(lambda: control.merged.n_objects < n)
    press(find_button(widget, "Exclude objects touching the image border"))
    until(lambda: control.merged.n_objects == n)
    type_number(widget.merging.filter.smallest, 100_000)
    until(lambda: control.merged.n_objects < n)
    type_number(widget.merging.filter.smallest, 0)
    until(lambda: control.merged.n_objects == n)
    rest()
    press(find_button(widget, "Inspect merges…"))
    inspector = widget.inspector
    table = inspector.tabs.pairs.table
    until(inspector.isVisible)
    inspector.tabs.pairs.filter.setCurrentText("all")
    until(lambda: table.model().rowCount() > 0 and table.viewport().height() > 30)
    QTest.qWait(300)
    QTest.mouseClick(table.viewport(), Qt.LeftButton, pos=table.visualRect(table.model().index(0, 1)).center())
    until(lambda: "Pair" in viewer.layers)
    pair = inspector.tabs.pair()
    for key, decision in ((Qt.Key_J, "join"), (Qt.Key_K, "cut"), (Qt.Key_U, "join")):
        press_key(viewer, key)
        until(lambda decision=decision: control.decisions.decision_on(pair) == decision)
        rest()
    press_key(viewer, Qt.Key_N)
    until(lambda: inspector.tabs.pair() != pair)
    for tab in range(inspector.tabs.count()):
        inspector.tabs.setCurrentIndex(tab)
    until(lambda: inspector.tabs.report.text() != "")
    inspector.tabs.setCurrentIndex(0)
    for text in ("Join two clicked", "Cut two clicked"):
        press(find_button(inspector, text))
        assert find_button(inspector, text).isChecked()
        press(find_button(inspector, text))
    press(find_button(inspector, "Segment again"))
    until(lambda: "Segmented again" in viewer.layers, 90)
    until(lambda: find_button(inspector, "Accept").isEnabled())
    press(find_button(inspector, "Accept"))
    until(lambda: control.again and control.state == "staged")
    until(lambda: find_button(inspector, "Restore original tiles").isEnabled())
    press(find_button(inspector, "Restore original tiles"))
    until(lambda: not control.again and control.state == "staged")
    rest()
    live = viewer.layers["nuclei labels"]
    press(find_button(widget, "Write merged labels"))
    until(lambda: control.state == "written")
    assert viewer.layers["nuclei labels"] is live
    np.testing.assert_array_equal(np.asarray(live.data), control.result.labels.compute())
    assert control.result.path.parent == Path.home()
    # 7. Repeat the run without a viewer
    for entry, word in (("Python", "segment("), ("Command line", "napari-blockbuster segment")):
        menu = find_button(widget, "Copy as script").menu()
        next(action for action in menu.actions() if action.text() == entry).trigger()
        assert word in QApplication.clipboard().text()
    _names_of_the_tutorial(viewer, widget, inspector)


def _names_of_the_tutorial(viewer: Any, widget: Any, inspector: Any) -> None:
    """Check that every name in italics on the page is on the screen."""
    text = re.sub(r"\*\*[^*]+\*\*", "", TUTORIAL.read_text(encoding="utf-8"))
    text = re.sub(r"^\* ", "- ", text, flags=re.M)
    named = [re.sub(r"\s+", " ", name) for name in re.findall(r"\*([^*]+)\*", text)]
    assert len(named) > 15
    shown = [
        "dask dashboard",
        *texts(widget, inspector),
        *RUN_LABELS.values(),
        *(layer.name for layer in viewer.layers),
        "voronoi-otsu",
    ]
    for name in named:
        if "→" in name:
            find_action(viewer, name.replace(" → ", " > "))
        else:
            assert any(each.startswith(name) for each in shown), f"the tutorial names {name!r}, which is nowhere"
