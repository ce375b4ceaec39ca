"""The list of pairs at seams: which kind is listed, in what order, and which one is looked at."""

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

from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.merge.pairs import PairOfLabels

from .pairs_model import FILTERS, PairsModel

__all__ = ["PairsTab"]


class PairsTab(QWidget):
    """A table of the pairs of a merge, with a choice of which are listed."""

    chosen = Signal()
    """Another line is the current one."""
    listed = Signal()
    """Other pairs are listed, or in another merge."""

    def __init__(self) -> None:
        super().__init__()
        self._merged: Merge | None = None
        self.model = PairsModel()
        self.filter = QComboBox()
        self.filter.addItems(FILTERS)
        self.filter.setToolTip("Which pairs are listed.")
        self.filter.setAccessibleName("which pairs are listed")
        self.band = QDoubleSpinBox()
        self.band.setRange(0.01, 1.0)
        self.band.setSingleStep(0.05)
        self.band.setValue(0.15)
        self.band.setToolTip("A pair is doubtful if its agreement is as near to the threshold as this.")
        self.band.setAccessibleName("width of the band of doubtful pairs")
        self.count = QLabel()
        row = QHBoxLayout()
        for widget in (QLabel("show"), self.filter, QLabel("within"), self.band, self.count):
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
        # Asking each of 100,000 rows for its width would take seconds.
        table.horizontalHeader().setSectionResizeMode(QHeaderView.Interactive)
        table.horizontalHeader().setStretchLastSection(True)
        return table

    def show_merge(self, merged: Merge | None, decisions: Decisions | None) -> None:
        """List the pairs of another merge. The pair that was chosen stays so; where it is gone, the one at its place."""
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
        """The row of the evidence that is looked at."""
        line = self.table.currentIndex().row()
        return self.model.row_at(line) if 0 <= line < self.model.rowCount() else None

    def current_pair(self) -> PairOfLabels | None:
        """The pair of labels that is looked at."""
        line = self.table.currentIndex().row()
        return self.model.pair_at(line) if 0 <= line < self.model.rowCount() else None

    def _filter(self, *_: Any) -> None:
        self.band.setEnabled(self.filter.currentText() == "doubtful")
        self.model.filter(self.filter.currentText(), self.band.value())

    def _count(self) -> None:
        total = 0 if self._merged is None else len(self._merged.seams)
        self.count.setText(f"{self.model.rowCount():,} of {total:,} pairs")
        self.listed.emit()
