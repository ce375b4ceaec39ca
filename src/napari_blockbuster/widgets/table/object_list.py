"""List of objects: a table that sorts on a click on a header, and a line that filters."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QItemSelectionModel, Qt, QTimer, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QLabel, QLineEdit, QTableView, QVBoxLayout, QWidget

from napari_blockbuster.widgets.controls import Note, row_of

from .content import Arrangement, TableContent, arrange
from .expression import EXAMPLE, ExpressionError
from .latest import Latest
from .model import ObjectsModel

__all__ = ["ObjectList"]

REST = 250
"""Milliseconds without a key until a filter is applied."""


class ObjectList(QWidget):
    """Rows of a table of objects, filtered and sorted in a thread."""

    chosen = Signal(int)
    """The user selected a row of the content."""
    listed = Signal()
    """Other rows are listed, or in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.model = ObjectsModel()
        self.model.sort_wanted.connect(self._sort)
        self._how = Arrangement()
        self._only: np.ndarray | None = None
        self._is_quiet = False
        self._pending: TableContent | None = None
        self._work = Latest(self, self._failed)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST)
        self._rest.timeout.connect(self.apply_filter)
        self.filter = QLineEdit()
        self.filter.setPlaceholderText(f"Filter, for example: {EXAMPLE}")
        self.filter.setAccessibleName("Filter")
        self.filter.setToolTip(
            "List only objects that meet a condition. Compare columns with numbers or with each other, and join conditions "
            "with and, or and not."
        )
        self.filter.setClearButtonEnabled(True)
        self.filter.textChanged.connect(lambda *_: self._rest.start())
        self.filter.returnPressed.connect(self.apply_filter)
        self.count, self.problem = QLabel(), Note()
        self.table = _table(self.model)
        self.table.selectionModel().currentRowChanged.connect(self._row_changed)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        self.head = row_of(self.filter, self.count)
        column.addWidget(self.head)
        column.addWidget(self.problem)
        column.addWidget(self.table, 1)
        self._count()

    # ------------------------------------------------------------------------------------------------------ content
    @property
    def content(self) -> TableContent | None:
        """The table whose rows are listed."""
        return self.model.content

    @property
    def expression(self) -> str:
        """The filter that is applied."""
        return self._how.expression

    def show_content(self, content: TableContent | None) -> None:
        """List another table, with the same filter and in the same order if it has the columns."""
        if content is None:
            self._work.forget()
            self._pending = None
            self.model.show(None, np.zeros(0, np.intp))
            self._listed()
            return
        self._pending, self._only = content, None
        self._arrange()

    def show_only(self, only: np.ndarray | None) -> None:
        """List some rows only: a mask of the rows of the content; None for all."""
        self._only = only
        self._arrange()

    def apply_filter(self) -> None:
        """List the rows that the filter line selects."""
        self._rest.stop()
        self._how = Arrangement(self.filter.text(), self._how.column, self._how.descending)
        self._arrange()

    def clear_filter(self) -> None:
        """List all rows."""
        self.filter.clear()
        self.apply_filter()

    def _sort(self, column: str, descending: bool) -> None:
        self._how = Arrangement(self._how.expression, column, descending)
        self._arrange()

    def _arrange(self) -> None:
        content, how, only = self._pending or self.content, self._how, self._only
        if content is None:
            return
        self._work.ask(lambda: arrange(content, how, only), lambda rows: self._show(content, rows))

    def _show(self, content: TableContent, rows: np.ndarray) -> None:
        self.problem.say("")
        current = self.current_row()
        if content is self.content:
            self.model.order(rows)
        else:
            first = self.content is None or self.content.names != content.names
            self._pending, current = None, None
            self.model.show(content, rows)
            if first:
                self._fit_columns()
        if current is not None:
            self.choose(current, fly=False)
        self._listed()

    def _failed(self, error: Exception) -> None:
        self.problem.say(str(error), problem=True)
        if self._pending is not None and isinstance(error, ExpressionError):
            # The filter does not fit the new table: list all of it.
            content, self._pending = self._pending, None
            self.model.show(content, np.arange(len(content)))
            self._listed()

    def _listed(self) -> None:
        self._count()
        self.listed.emit()

    def _count(self) -> None:
        content = self.content
        total, shown = (0 if content is None else len(content)), self.model.rowCount()
        self.count.setText(f"{shown:,} of {total:,}" if shown != total else f"{total:,} objects")

    def _fit_columns(self) -> None:
        """Make each column wide enough for its name and its first values."""
        header, metrics = self.table.horizontalHeader(), self.table.fontMetrics()
        for k in range(self.model.columnCount()):
            cells = [self.model.data(self.model.index(line, k)) for line in range(min(20, self.model.rowCount()))]
            name = str(self.model.headerData(k, Qt.Horizontal))
            # Room for the sign of the order.
            widths = [metrics.horizontalAdvance(name) + 26, *(metrics.horizontalAdvance(str(c)) + 14 for c in cells)]
            header.resizeSection(k, min(max(widths), 220))

    # ---------------------------------------------------------------------------------------------------- selection
    def current_row(self) -> int | None:
        """Return the selected row of the content."""
        index = self.table.selectionModel().currentIndex()
        return self.model.row_at(index.row()) if index.isValid() and index.row() < len(self.model.rows) else None

    def choose(self, row: int, fly: bool = True) -> bool:
        """Select a row of the content, and scroll to it. Returns False if it is not listed."""
        line = self.model.line_of(row)
        if line is None:
            return False
        self._is_quiet = not fly
        index = self.model.index(line, max(0, self.table.currentIndex().column()))
        self.table.selectionModel().setCurrentIndex(
            index, QItemSelectionModel.SelectionFlag.ClearAndSelect | QItemSelectionModel.SelectionFlag.Rows
        )
        self._is_quiet = False
        self.table.scrollTo(index, QAbstractItemView.PositionAtCenter)
        return True

    def mark(self, selected: np.ndarray | None) -> None:
        """Mark the rows of selected objects."""
        self.model.mark(selected)
        self.table.viewport().update()

    def _row_changed(self, *_: object) -> None:
        row = self.current_row()
        if row is not None and not self._is_quiet:
            self.chosen.emit(row)


def _table(model: ObjectsModel) -> QTableView:
    table = QTableView()
    table.setModel(model)
    table.setSelectionBehavior(QAbstractItemView.SelectRows)
    table.setSelectionMode(QAbstractItemView.SingleSelection)
    table.setEditTriggers(QAbstractItemView.NoEditTriggers)
    table.setHorizontalScrollMode(QAbstractItemView.ScrollPerPixel)
    table.setWordWrap(False)
    table.setAccessibleName("Objects")
    lines = table.verticalHeader()
    # Lines of one height: Qt then asks no line for its size.
    lines.setSectionResizeMode(QHeaderView.Fixed)
    lines.setDefaultSectionSize(table.fontMetrics().height() + 6)
    lines.hide()
    header = table.horizontalHeader()
    header.setSortIndicator(-1, Qt.AscendingOrder)
    table.setSortingEnabled(True)
    header.setSortIndicatorClearable(True) if hasattr(header, "setSortIndicatorClearable") else None
    header.setHighlightSections(False)
    table.setMinimumSize(200, 60)
    return table
