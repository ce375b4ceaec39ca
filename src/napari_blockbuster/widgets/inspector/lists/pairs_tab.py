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
from napari_blockbuster.widgets.controls import Note
from napari_blockbuster.widgets.texts import link

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
        self.band.setMaximumWidth(90)
        self._band_label = QLabel("Margin up to")
        self.count = QLabel()
        self.note = Note()
        self.note.linkActivated.connect(lambda *_: self.filter.setCurrentText("all"))
        self.bar = QWidget()
        row = QHBoxLayout(self.bar)
        row.setContentsMargins(0, 0, 0, 2)
        for widget in (self.filter, self._band_label, self.band, self.count):
            row.addWidget(widget)
        self.table = self._table()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.note)
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
        table.setMinimumHeight(40)
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
        line = None if self._pair is None else self.model.find(self._pair)
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
        # Room for the tabs beside it.
        for widget in (self._band_label, self.band):
            widget.setVisible(self.filter.currentText() == "doubtful")
        self.model.filter(self.filter.currentText(), self.band.value())

    def _count(self) -> None:
        self.count.setText(f"{self.model.rowCount():,} of {self.model.n_pairs:,}")
        self.count.setToolTip(f"Listed, of {count_text(self.model.n_pairs, 'pair')} of labels at seams.")
        self.note.say("" if self.model.rowCount() else self._why_empty())
        self.listed.emit()

    def _why_empty(self) -> str:
        """Return why no pair is listed, and what to do."""
        if self._merged is None:
            return "There is no merge yet. Pairs are listed once tiles are merged."
        if not self.model.n_pairs:
            return "No two labels meet at a seam. There is nothing to decide."
        reason = {
            "doubtful": f"No pair is within {self.band.value():.2f} of the threshold, so none is doubtful.",
            "my decisions": "You have not decided on a pair yet. Select one and press J or K, or join two clicked objects.",
        }.get(self.filter.currentText(), f"No pair is {self.filter.currentText()}.")
        return f"{reason} {link('all', 'Show all pairs')}"
