"""Histogram of the agreement of pairs, with the threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

__all__ = ["Histogram"]

JOINED, SEPARATE = QColor("#009e73"), QColor("#d55e00")
BINS = 50


class Histogram(QWidget):
    """Number of pairs by agreement, colored by the side of the threshold."""

    def __init__(self) -> None:
        super().__init__()
        self._counts = np.zeros(BINS)
        self._threshold: float | None = None
        self.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        self.setToolTip(
            "Number of pairs by agreement, from 0 to 1 (square-root scale). Green: above the threshold, joined. Orange: separate."
        )
        self.setAccessibleName("Histogram of agreement")

    def sizeHint(self) -> QSize:
        return QSize(160, 64)

    def show_values(self, values: np.ndarray, threshold: float | None) -> None:
        """Show values from 0 to 1. Zeros, pairs that no threshold joins, are omitted."""
        self._counts = np.histogram(values[values > 0], bins=BINS, range=(0, 1))[0].astype(float)
        self._threshold = threshold
        self.update()

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        width, height = self.width(), self.height() - 2
        highest = np.sqrt(self._counts.max()) or 1.0
        step = width / BINS
        for k, count in enumerate(self._counts):
            above = self._threshold is None or (k + 0.5) / BINS >= self._threshold
            tall = np.sqrt(count) / highest * (height - 4)
            painter.fillRect(QRectF(k * step, height - tall, max(step - 1, 1), tall), JOINED if above else SEPARATE)
        painter.setPen(QPen(self.palette().text().color(), 1))
        painter.drawLine(0, height, width, height)
        if self._threshold is not None:
            painter.setPen(QPen(self.palette().text().color(), 2, Qt.DashLine))
            x = round(self._threshold * width)
            painter.drawLine(x, 0, x, height)
