"""Table model of objects: cells are read when they are painted, so that a million rows cost nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QColor

from .content import TableContent, text_of

__all__ = ["ObjectsModel"]

SELECTED = QColor(0xE6, 0x9F, 0x00, 90)
"""Background of rows whose object is selected."""


class ObjectsModel(QAbstractTableModel):
    """Lists rows of a `TableContent` in a given order. Sorting is left to `sort_wanted`."""

    sort_wanted = Signal(str, bool)
    """Name of a column, and whether in descending order."""

    def __init__(self) -> None:
        super().__init__()
        self.content: TableContent | None = None
        self.rows = np.zeros(0, np.intp)
        """Rows of the content, in the order of the lines."""
        self._names: list[str] = []
        self._selected: np.ndarray | None = None

    def show(self, content: TableContent | None, rows: np.ndarray) -> None:
        """List rows of a table."""
        self.beginResetModel()
        self.content, self.rows = content, rows
        self._names = [] if content is None else content.names
        self._selected = None
        self.endResetModel()

    def order(self, rows: np.ndarray) -> None:
        """List other rows of the same table, or in another order."""
        self.beginResetModel()
        self.rows = rows
        self.endResetModel()

    def mark(self, selected: np.ndarray | None) -> None:
        """Mark the rows whose object is selected: a mask of the rows of the content."""
        self._selected = selected

    def row_at(self, line: int) -> int:
        """Return the row of the content that a line shows."""
        return int(self.rows[line])

    def line_of(self, row: int) -> int | None:
        """Return the line that shows a row, if any."""
        found = np.flatnonzero(self.rows == row)
        return int(found[0]) if len(found) else None

    # ----------------------------------------------------------------------------------------------------------- Qt
    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._names)

    def data(self, index: QModelIndex, role: int = Qt.DisplayRole) -> Any:
        if self.content is None or role not in (Qt.DisplayRole, Qt.TextAlignmentRole, Qt.BackgroundRole):
            return None
        row = self.rows[index.row()]
        if role == Qt.BackgroundRole:
            return SELECTED if self._selected is not None and self._selected[row] else None
        values = self.content.column(self._names[index.column()])
        if role == Qt.DisplayRole:
            return text_of(values[row])
        return int((Qt.AlignRight if values.dtype.kind in "iuf" else Qt.AlignLeft) | Qt.AlignVCenter)

    def headerData(self, section: int, orientation: Any, role: int = Qt.DisplayRole) -> Any:
        if orientation != Qt.Horizontal or section >= len(self._names):
            return None
        if role == Qt.DisplayRole:
            return self._names[section]
        return tip_of(self._names[section]) if role == Qt.ToolTipRole else None

    def sort(self, column: int, order: Any = Qt.AscendingOrder) -> None:
        """Ask for another order. The rows arrive later, with `order`."""
        if 0 <= column < len(self._names):
            self.sort_wanted.emit(self._names[column], order == Qt.DescendingOrder)


TIPS = {
    "label": "Number of the object in the label image.",
    "area": "Voxels of the object (pixels in 2D).",
    "extent": "Share of the bounding box that the object fills.",
    "equivalent_diameter_area": "Diameter of a sphere (a circle in 2D) of the same size.",
    "sphericity": "1 for a sphere, less for other shapes.",
    "centroid": "Center of the object, in voxels.",
    "bbox": "Bounding box, in voxels: first voxels, then ends.",
}


def tip_of(name: str) -> str:
    """Return what a column holds; its name if nothing more is known."""
    return TIPS.get(name) or TIPS.get(name.partition("-")[0]) or name
