"""Hands for tests: find what a user sees by its text, and click it."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QAction
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QSpinBox, QWidget

__all__ = ["choose", "entries", "find_action", "find_button", "press", "see_dock", "type_number"]


def entries(menu: Any) -> dict[str, QAction]:
    """Visible entries of an open menu by their text."""
    # napari fills and enables menus as they open.
    if hasattr(menu, "aboutToShow"):
        menu.aboutToShow.emit()
    return {action.text().replace("&", ""): action for action in menu.actions() if action.text()}


def find_action(viewer: Any, path: str) -> QAction:
    """The entry of napari's menu bar at ``"Menu > Submenu > Entry"``."""
    menu: Any = viewer.window._qt_window.menuBar()
    *submenus, last = path.split(" > ")
    for name in submenus:
        found = entries(menu)
        assert name in found, f"{path}: no {name!r} in {list(found)}"
        menu = found[name].menu()
    found = entries(menu)
    assert last in found, f"{path}: no {last!r} in {list(found)}"
    assert found[last].isEnabled(), f"{path} is disabled"
    return found[last]


def choose(viewer: Any, path: str) -> None:
    """Choose an entry of napari's menu bar."""
    find_action(viewer, path).trigger()


def see_dock(viewer: Any) -> Any:
    """The dock of the plugin; there is one and no other."""
    docks = [dock for name, dock in viewer.window._wrapped_dock_widgets.items() if "Segment large image" in name]
    assert len(docks) == 1, docks
    return docks[0]


def find_button(within: QWidget, text: str) -> QAbstractButton:
    """The button or checkbox on the screen that says `text`."""
    found = [b for b in within.findChildren(QAbstractButton) if b.text() == text and b.isVisible()]
    assert len(found) == 1, f"{text!r}: {[b.text() for b in within.findChildren(QAbstractButton) if b.isVisible()]}"
    return found[0]


def press(button: QAbstractButton) -> None:
    """Press a button as a mouse does."""
    assert button.isVisible(), f"{button.text()!r} is hidden"
    assert button.isEnabled(), f"{button.text()!r} is disabled"
    QTest.mouseClick(button, Qt.LeftButton)


def type_number(spin: QSpinBox, value: int) -> None:
    """Type a number over the old one, and press Enter."""
    spin.setFocus()
    spin.selectAll()
    QTest.keyClicks(spin, str(value))
    QTest.keyClick(spin, Qt.Key_Return)
    assert spin.value() == value
