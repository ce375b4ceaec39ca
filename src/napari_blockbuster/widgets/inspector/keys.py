"""Keys of the inspector: over the canvas, and wherever the focus is in the inspector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QWidget

from napari_blockbuster.widgets.run.control.control import RunControl

__all__ = ["InspectorKeys", "key_calls", "release_keys"]

KEYS = ("j", "k", "u", "Shift-u", "n", "Shift-n")
"""Join, cut, undo, redo, next, previous. The inspector takes these keys of the viewer while it is open. No layer of napari
uses one of them: C, for example, is auto-contrast."""


class InspectorKeys(QObject):
    """Calls a function for each of `KEYS`.

    Parameters
    ----------
    viewer : napari.Viewer
    inspector : QWidget
        With all its children. Lists and combo boxes would take the keys for a search, number fields as input.
    calls : sequence of callable
    """

    def __init__(self, viewer: Any, inspector: QWidget, calls: Sequence[Callable[[], object]]) -> None:
        super().__init__(inspector)
        self._viewer = viewer
        self._calls = dict(zip(KEYS, calls, strict=True))
        for widget in (inspector, *inspector.findChildren(QWidget)):
            if widget is inspector or widget.focusPolicy() != Qt.NoFocus:
                widget.installEventFilter(self)

    def bind(self) -> None:
        """Take the keys of the viewer. `release_keys` gives them back."""
        for key, call in self._calls.items():
            self._viewer.bind_key(key, lambda _, call=call: call(), overwrite=True)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Handle the keys before the widget that has the focus."""
        if event.type() not in (QEvent.KeyPress, QEvent.ShortcutOverride):
            return False
        call = self._calls.get(_name(event))
        if call is None:
            return False
        event.accept()
        if event.type() == QEvent.KeyPress:
            call()
        return True


def key_calls(control: RunControl, tabs: Any, decide: Callable[[str], object]) -> tuple[Callable[[], object], ...]:
    """Return what each of `KEYS` does."""
    return (
        lambda: decide("join"),
        lambda: decide("cut"),
        control.undo,
        control.redo,
        lambda: tabs.step(1),
        lambda: tabs.step(-1),
    )


def _name(event: Any) -> str:
    """Return the key of an event as in `KEYS`, or ""."""
    held = event.modifiers() & ~Qt.KeypadModifier
    if held not in (Qt.NoModifier, Qt.ShiftModifier) or not Qt.Key_A <= event.key() <= Qt.Key_Z:
        return ""
    return f"{'Shift-' if held == Qt.ShiftModifier else ''}{chr(event.key()).lower()}"


def release_keys(viewer: Any) -> None:
    """Give the inspector's keys back to the viewer."""
    for key in KEYS:
        viewer.bind_key(key, None)
