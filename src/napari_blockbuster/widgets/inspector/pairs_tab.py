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
    """Table of the pairs of a merge, and the choice of pairs that it lists."""

    chosen = Signal()
    """Another pair is selected."""
    listed = Signal()
    """The list changed."""

    def __init__(self) -> None:
        super().__init__()
        self._merged: Merge | None = None
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
        self.table.selectionModel().currentRowChanged.connect(lambda *_: self.chosen.emit())
        self.model.modelReset.connect(self._count)
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
        # Measuring 100,000 rows would take seconds.
        table.horizontalHeader().setSectionResizeMode(QHeaderView.Interactive)
        table.horizontalHeader().setStretchLastSection(True)
        return table

    def show_merge(self, merged: Merge | None, decisions: Decisions | None) -> None:
        """List the pairs of a merge. Keep the selected pair, or select the one in its line if it is gone."""
        pair, line = self.current_pair(), self.table.currentIndex().row()
        self._merged = merged
        self.model.show(merged, decisions)
        if merged is None or pair is None or not self.model.rowCount():
            return
        row = merged.row_of(pair)
        found = None if row is None else self.model.line_of(row)
        selection = self.table.selectionModel()
        selection.blockSignals(True)
        self.table.selectRow(min(line, self.model.rowCount() - 1) if found is None else found)
        selection.blockSignals(False)

    def current_row(self) -> int | None:
        """Return the row of the evidence of the selected pair."""
        line = self.table.currentIndex().row()
        return self.model.row_at(line) if 0 <= line < self.model.rowCount() else None

    def current_pair(self) -> PairOfLabels | None:
        """Return the selected pair of labels."""
        line = self.table.currentIndex().row()
        return self.model.pair_at(line) if 0 <= line < self.model.rowCount() else None

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
