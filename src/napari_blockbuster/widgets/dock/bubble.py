"""Bubble beside the dock that points at a button. It is part of the window and blocks nothing."""

from __future__ import annotations

from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QPoint, QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPolygonF
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

__all__ = ["Bubble"]

WIDTH, ARROW = 290, 12
"""Pixels."""


class Bubble(QWidget):
    """Text with *Next* and *Close*, and an arrow that points at a widget.

    Parameters
    ----------
    parent : QWidget
        The window.
    theme : str
        Name of napari's theme.
    """

    next_wanted = Signal()
    close_wanted = Signal()

    def __init__(self, parent: QWidget, theme: str) -> None:
        super().__init__(parent)
        self.setObjectName("tour")
        colors = get_theme(theme)
        self._color = QColor(colors.current.as_hex())
        self._points_right, self._tip = True, 0
        self.title, self.text = QLabel(), QLabel()
        self.text.setWordWrap(True)
        self.next = QPushButton("Next")
        self.next.clicked.connect(lambda *_: self.next_wanted.emit())
        self.close_button = QPushButton("Close")
        self.close_button.clicked.connect(lambda *_: self.close_wanted.emit())
        row = QHBoxLayout()
        row.addStretch()
        row.addWidget(self.close_button)
        row.addWidget(self.next)
        column = QVBoxLayout(self)
        column.setContentsMargins(14 + ARROW, 12, 14 + ARROW, 12)
        column.addWidget(self.title)
        column.addWidget(self.text)
        column.addLayout(row)
        self.setStyleSheet(f"QLabel {{ background: transparent; color: {colors.text.as_hex()}; }}")
        self.title.setStyleSheet("font-weight: bold;")
        self.setFixedWidth(WIDTH + 2 * ARROW)

    def say(self, title: str, text: str, last: bool) -> None:
        """Set the text."""
        self.title.setText(title)
        self.text.setText(text)
        self.next.setText("Finish" if last else "Next")
        self.setFixedHeight(self.layout().totalHeightForWidth(self.width()))

    def point_at(self, target: QWidget, dock: QWidget) -> None:
        """Move beside the dock, on the side with more room, at the height of a widget."""
        window = self.parentWidget()
        height = target.mapTo(window, QPoint(0, target.height() // 2)).y()
        left = dock.mapTo(window, QPoint(0, 0)).x()
        right = left + dock.width()
        self._points_right = left >= window.width() - right
        x = left - self.width() + ARROW // 2 if self._points_right else right - ARROW // 2
        y = min(max(height - self.height() // 2, 4), window.height() - self.height() - 4)
        self.move(min(max(x, 0), max(window.width() - self.width(), 0)), y)
        self._tip = min(max(height - y, 20), self.height() - 20)
        self.raise_()
        self.update()

    def paintEvent(self, event: Any) -> None:
        """Draw the bubble with its arrow."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.Antialiasing)
        outline = QPainterPath()
        outline.addRoundedRect(QRectF(self.rect()).adjusted(ARROW, 0, -ARROW, 0), 6, 6)
        edge, tip = (self.width() - ARROW, self.width()) if self._points_right else (ARROW, 0)
        arrow = [QPointF(edge, self._tip - ARROW), QPointF(tip, self._tip), QPointF(edge, self._tip + ARROW)]
        outline.addPolygon(QPolygonF(arrow))
        outline.setFillRule(Qt.WindingFill)
        painter.fillPath(outline, self._color)
        painter.end()
