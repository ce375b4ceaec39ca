"""List of the pairs at seams, with a filter."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_blockbuster.machine.units import count_text
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.merge.pairs import PairOfLabels

from .pairs_model import FILTERS, PairsModel

__all__ = ["PairsTab"]


class PairsTab(QWidget):
    """Table of the pairs of a merge, and the choice of pairs that it lists.

    The selected pair stays selected until another one is, also when the list is sorted, filtered or merged anew and does
    not show it any more. It is the pair that the viewer shows.
    """

    chosen = Signal()
    """Another pair is selected."""
    listed = Signal()
    """The list changed."""

    def __init__(self) -> None:
        super().__init__()
        self._merged: Merge | None = None
        self._pair: PairOfLabels | None = None
        self._line = 0
        self.model = PairsModel()
        self.filter = QComboBox()
        self.filter.addItems(FILTERS)
        self.filter.setToolTip("Pairs to list.")
        self.filter.setAccessibleName("Pairs to list")
        self.band = QDoubleSpinBox()
        self.band.setRange(0.01, 1.0)
        self.band.setSingleStep(0.05)
        self.band.setValue(0.15)
        self.band.setToolTip(
            "A pair is doubtful if its margin, the difference between agreement and threshold, is at most this."
        )
        self.band.setAccessibleName("Largest margin of doubtful pairs")
        self.count = QLabel()
        row = QHBoxLayout()
        for widget in (QLabel("Show"), self.filter, QLabel("Margin up to"), self.band, self.count):
            row.addWidget(widget)
        row.addStretch()
        self.table = self._table()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.addLayout(row)
        column.addWidget(self.table)
        self.table.selectionModel().currentRowChanged.connect(self._chosen_in_table)
        self.model.modelReset.connect(self._relist)
        self.model.layoutChanged.connect(self._select)
        self.filter.currentTextChanged.connect(self._filter)
        self.band.valueChanged.connect(self._filter)

    def _table(self) -> QTableView:
        table = QTableView()
        table.setModel(self.model)
        table.setSortingEnabled(True)
        table.sortByColumn(3, Qt.AscendingOrder)
        table.setSelectionBehavior(QAbstractItemView.SelectRows)
        table.setSelectionMode(QAbstractItemView.SingleSelection)
        table.verticalHeader().setDefaultSectionSize(22)
        table.setMinimumHeight(64)
        # Measuring 100,000 rows would take seconds.
        table.horizontalHeader().setSectionResizeMode(QHeaderView.Interactive)
        table.horizontalHeader().setStretchLastSection(True)
        return table

    def show_merge(self, merged: Merge | None, decisions: Decisions | None) -> None:
        """List the pairs of a merge."""
        self._merged = merged
        if merged is None:
            self._pair = None
        self.model.show(merged, decisions)

    def choose(self, pair: PairOfLabels | None) -> None:
        """Select a pair, or none, without a signal."""
        self._pair = pair
        self._select()

    def step(self, by: int) -> None:
        """Select the next or previous line. A pair that left the list is followed by the line in its place."""
        count, line = self.model.rowCount(), self.table.currentIndex().row()
        if not count:
            return
        if line < 0:
            line = 0 if self._pair is None else self._line - (by < 0)
        else:
            line += by
        self.table.selectRow(line % count)

    def current_row(self) -> int | None:
        """Return the row of the evidence of the selected pair; None if its labels do not meet at a seam."""
        return None if self._pair is None or self._merged is None else self._merged.row_of(self._pair)

    def current_pair(self) -> PairOfLabels | None:
        """Return the selected pair of labels."""
        return self._pair

    def _chosen_in_table(self, current: Any, _: Any = None) -> None:
        if current.isValid():
            self._line = current.row()
            self._pair = self.model.pair_at(current.row())
            self.chosen.emit()

    def _select(self) -> None:
        """Select the line of the selected pair, if the list has it."""
        row = self.current_row()
        line = None if row is None else self.model.line_of(row)
        selection = self.table.selectionModel()
        selection.blockSignals(True)
        if line is None:
            selection.clear()
        else:
            self._line = line
            self.table.selectRow(line)
        selection.blockSignals(False)
        self.table.viewport().update()

    def _relist(self) -> None:
        self._select()
        self._count()

    def _filter(self, *_: Any) -> None:
        self.band.setEnabled(self.filter.currentText() == "doubtful")
        self.model.filter(self.filter.currentText(), self.band.value())

    def _count(self) -> None:
        total = 0 if self._merged is None else len(self._merged.seams)
        shown = self.model.rowCount()
        text = f"{shown:,} of {count_text(total, 'pair')}"
        if total and not shown:
            text += '. Choose "all" to list every pair.' if self.filter.currentText() != "all" else ""
        self.count.setText(text)
        self.listed.emit()
