"""Hands for tests: find what a user sees by its text, and click it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QTimer, QUrl
from qtpy.QtGui import QAction, QDropEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QCheckBox,
    QComboBox,
    QDialogButtonBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QSpinBox,
    QTabWidget,
    QWidget,
)

__all__ = [
    "PLUGIN",
    "SAMPLES",
    "answer_dialogs",
    "choose",
    "drop",
    "entries",
    "find_action",
    "find_button",
    "press",
    "press_key",
    "see_dock",
    "texts",
    "type_number",
    "unfold",
]


SAMPLES = "File > Open Sample > Blockbuster"
PLUGIN = "Plugins > Blockbuster > Segment large image"


def entries(menu: Any) -> dict[str, QAction]:
    """Visible entries of an open menu by their text."""
    # napari fills and enables menus as they open.
    if hasattr(menu, "aboutToShow"):
        menu.aboutToShow.emit()
    return {action.text().replace("&", ""): action for action in menu.actions() if action.text()}


def find_action(viewer: Any, path: str) -> QAction:
    """The entry of napari's menu bar at ``"Menu > Submenu > Entry"``; the start of its text is enough."""
    menu: Any = viewer.window._qt_window.menuBar()
    action: Any = None
    for name in path.split(" > "):
        assert menu is not None, f"{path}: nothing opens at {name!r}"
        found = entries(menu)
        fitting = [text for text in found if text.startswith(name)]
        assert len(fitting) == 1, f"{path}: no {name!r}, or several, in {list(found)}"
        action = found[fitting[0]]
        menu = action.menu()
    assert action.isEnabled(), f"{path} is disabled"
    return action


def choose(viewer: Any, path: str) -> None:
    """Choose an entry of napari's menu bar."""
    find_action(viewer, path).trigger()


def see_dock(viewer: Any) -> Any:
    """The dock of the plugin; there is one and no other."""
    docks = [dock for name, dock in viewer.window._wrapped_dock_widgets.items() if "Segment large image" in name]
    assert len(docks) == 1, docks
    return docks[0]


def unfold(widget: QWidget) -> None:
    """Click the header of a folded step, and the folds in it, as a user would to see a widget."""
    parents: list[Any] = [widget]
    while parents[-1].parentWidget() is not None:
        parents.append(parents[-1].parentWidget())
    for parent in reversed(parents):
        opener = getattr(parent, "opener", None)
        if opener is not None and parent.isHidden():
            QTest.mouseClick(opener, Qt.LeftButton, pos=QPoint(12, opener.height() // 2))
            QApplication.processEvents()


def find_button(within: QWidget, text: str) -> QAbstractButton:
    """The button or checkbox that says `text`, on the screen or in a folded step, which is opened."""
    found = [b for b in within.findChildren(QAbstractButton) if b.text() == text and b.isVisible()]
    if not found:
        for folded in [b for b in within.findChildren(QAbstractButton) if b.text() == text and not b.isHidden()]:
            unfold(folded)
        found = [b for b in within.findChildren(QAbstractButton) if b.text() == text and b.isVisible()]
    assert len(found) == 1, f"{text!r}: {[b.text() for b in within.findChildren(QAbstractButton) if b.isVisible()]}"
    return found[0]


def press(button: QAbstractButton) -> None:
    """Press a button as a mouse does."""
    unfold(button)
    assert button.isVisible(), f"{button.text()!r} is hidden"
    assert button.isEnabled(), f"{button.text()!r} is disabled"
    # A checkbox is as wide as its row, and answers where its box and its text are.
    where = QPoint(8, button.height() // 2) if isinstance(button, QCheckBox) else button.rect().center()
    QTest.mouseClick(button, Qt.LeftButton, pos=where)


def type_number(spin: QSpinBox, value: int) -> None:
    """Type a number over the old one, and press Enter."""
    unfold(spin)
    spin.setFocus()
    spin.selectAll()
    QTest.keyClicks(spin, str(value))
    QTest.keyClick(spin, Qt.Key_Return)
    assert spin.value() == value


def press_key(viewer: Any, key: Any) -> None:
    """Press a key over the image."""
    canvas = viewer.window._qt_viewer.canvas.native
    canvas.setFocus()
    QTest.keyClick(canvas, key)


def drop(viewer: Any, path: Path) -> None:
    """Drop a file or a folder on the viewer."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    event = QDropEvent(QPointF(50, 50), Qt.CopyAction, data, Qt.LeftButton, Qt.NoModifier)
    viewer.window._qt_viewer.dropEvent(event)


@contextmanager
def answer_dialogs(path: Path, reader: str = "Blockbuster") -> Iterator[list[str]]:
    """Answer dialogs that come up: type a path into those that ask for one, choose `reader` where napari asks for it.

    Yields the titles of the dialogs.
    """
    seen: list[str] = []
    timer = QTimer()

    def answer() -> None:
        dialog = QApplication.activeModalWidget()
        if dialog is None:
            return
        assert len(seen) < 5, seen
        seen.append(dialog.windowTitle())
        if isinstance(dialog, QFileDialog):
            dialog.findChild(QLineEdit, "fileNameEdit").setText(str(path))
        else:
            find_button(dialog, reader).setChecked(True)
        box = dialog.findChild(QDialogButtonBox)
        accepting = (QDialogButtonBox.AcceptRole, QDialogButtonBox.YesRole)
        press(next(b for b in box.buttons() if box.buttonRole(b) in accepting))

    timer.timeout.connect(answer)
    timer.start(200)
    try:
        yield seen
    finally:
        timer.stop()


def texts(*within: QWidget) -> list[str]:
    """What buttons, labels, lists of choices, tabs and menus of buttons say, shown or not."""
    found = []
    for widget in within:
        for button in widget.findChildren(QAbstractButton):
            found.append(button.text())
            menu = getattr(button, "menu", lambda: None)()
            found += [action.text() for action in menu.actions()] if menu is not None else []
        found += [label.text() for label in widget.findChildren(QLabel)]
        found += [box.itemText(i) for box in widget.findChildren(QComboBox) for i in range(box.count())]
        found += [tabs.tabText(i) for tabs in widget.findChildren(QTabWidget) for i in range(tabs.count())]
    return found
