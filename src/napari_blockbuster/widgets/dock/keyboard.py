"""Mouse wheel and keyboard in the dock: the wheel scrolls, Tab moves in reading order, Enter presses buttons."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject, QPoint, Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QScrollArea,
    QScrollBar,
    QWidget,
)

__all__ = ["KeyboardWidget", "WheelGuard", "in_reading_order"]

FIELDS = (QAbstractSpinBox, QComboBox, QAbstractSlider)
"""Fields whose value the wheel changes."""
ROW = 10
"""Pixels that the tops of fields in one row may differ by."""


class WheelGuard(QObject):
    """Keeps the wheel from changing fields without the keyboard focus below a widget. It scrolls the dock instead.

    Fields that are added later are guarded when they are first shown.
    """

    def __init__(self, root: QWidget) -> None:
        super().__init__(root)
        self._guard(root)

    def _guard(self, widget: QObject) -> None:
        if not isinstance(widget, QWidget) or isinstance(widget, QScrollBar):
            return
        widget.installEventFilter(self)
        if isinstance(widget, FIELDS) and widget.focusPolicy() != Qt.NoFocus:
            # Like WheelFocus, but the wheel does not give the focus.
            widget.setFocusPolicy(Qt.StrongFocus)
            return
        for child in widget.children():
            self._guard(child)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Send the wheel over a field without focus to its parent."""
        kind = event.type()
        if kind == QEvent.Wheel and isinstance(watched, FIELDS) and not watched.hasFocus():
            event.ignore()
            return True
        if kind == QEvent.ChildPolished:
            self._guard(event.child())
        return False


class KeyboardWidget(QWidget):
    """Widget in which Tab follows the eye, and Enter presses the focused button. `form` is its scroll area."""

    form: QScrollArea

    def focusNextPrevChild(self, forward: bool) -> bool:
        """Move the focus in reading order, also to fields that were added later."""
        order = in_reading_order(self)
        focused = self.focusWidget()
        if focused in order:
            place = order.index(focused) + (1 if forward else -1)
            if 0 <= place < len(order):
                order[place].setFocus(Qt.TabFocusReason if forward else Qt.BacktabFocusReason)
                if self.form.isAncestorOf(order[place]):
                    self.form.ensureWidgetVisible(order[place])
                return True
        return bool(super().focusNextPrevChild(forward))

    def keyPressEvent(self, event: Any) -> None:
        """Press the focused button with Enter, as with Space."""
        if event.key() in (Qt.Key_Return, Qt.Key_Enter) and _press_focused(self):
            return
        super().keyPressEvent(event)


def in_reading_order(root: QWidget) -> list[QWidget]:
    """Return the fields below a widget that Tab can reach, from top to bottom and from left to right."""
    found = [
        (widget.mapTo(root, QPoint(0, widget.height() // 2)), widget)
        for widget in root.findChildren(QWidget)
        if widget.isVisible()
        and widget.isEnabled()
        and widget.focusPolicy() & Qt.TabFocus
        and widget.focusProxy() is None
        # The editor of a field is part of it.
        and not isinstance(widget.parentWidget(), FIELDS)
    ]
    found.sort(key=lambda item: item[0].y())
    rows: list[list[tuple[QPoint, QWidget]]] = []
    for item in found:
        if rows and item[0].y() - rows[-1][0][0].y() < ROW:
            rows[-1].append(item)
        else:
            rows.append([item])
    return [widget for row in rows for _, widget in sorted(row, key=lambda item: item[0].x())]


def _press_focused(root: QWidget) -> bool:
    """Press the button that has the focus; returns whether there is one."""
    focused = root.focusWidget()
    if isinstance(focused, QAbstractButton) and focused.isEnabled():
        focused.click()
        return True
    return False
