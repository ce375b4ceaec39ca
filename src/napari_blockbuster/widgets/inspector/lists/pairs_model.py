"""Table model of the pairs of a merge. It sorts and filters numpy columns, which is fast for 100,000 rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt

from napari_blockbuster.inspect.doubt import doubt_of
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.merge.links import one_object
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.merge.rules import band_iou, face_iou

__all__ = ["FILTERS", "PairsModel"]

COLUMNS = ("result", "my decision", "IoU", "margin", "contact", "tiles", "labels")
TIPS = (
    "Result of the merge rule and your decisions: joined, separate, or joined via other labels.",
    "Your decision on this pair.",
    "Agreement of the two labels where both tiles saw them, from 0 to 1.",
    "Difference between the agreement and the threshold. A small margin is doubtful. The agreement can differ from the IoU, "
    "because it depends on the sizes of the labels as well.",
    "Size of the contact across the seam.",
    "The two tiles.",
    "Number of the label in each tile.",
)
DECISIONS = ("", "join", "cut")
RESULTS = ("separate", "joined", "via others")
FILTERS = ("doubtful", "all", "joined", "separate", "my decisions")


class PairsModel(QAbstractTableModel):
    """One line for each pair of labels at a seam. `row_at` maps lines to rows of the evidence."""

    def __init__(self) -> None:
        super().__init__()
        self._merged: Merge | None = None
        self._columns: dict[str, np.ndarray] = {}
        self._rows = np.zeros(0, np.intp)
        self._sorted = (COLUMNS.index("margin"), Qt.AscendingOrder)
        self._filter, self._band = FILTERS[0], 0.15

    # ------------------------------------------------------------------------------------------------------ content
    def show(self, merged: Merge | None, decisions: Decisions | None) -> None:
        """Show the pairs of a merge."""
        self.beginResetModel()
        self._merged = merged
        self._columns = {} if merged is None else _columns(merged, decisions)
        self._choose()
        self.endResetModel()

    def filter(self, name: str, band: float) -> None:
        """Show one kind of pairs. Doubtful pairs are those within `band` of the threshold."""
        self.beginResetModel()
        self._filter, self._band = name, band
        self._choose()
        self.endResetModel()

    def _choose(self) -> None:
        if self._merged is None:
            self._rows = np.zeros(0, np.intp)
            return
        columns = self._columns
        chosen = {
            "doubtful": columns["margin"] <= self._band,
            "all": np.ones(len(columns["margin"]), bool),
            "joined": columns["result"] > 0,
            "separate": columns["result"] == 0,
            "my decisions": columns["my decision"] > 0,
        }[self._filter]
        rows = np.flatnonzero(chosen)
        column, order = self._sorted
        keys = columns[COLUMNS[column]][rows]
        # A stable sort keeps the order of equal rows.
        found = np.argsort(keys if order == Qt.AscendingOrder else -keys.astype(np.float64), kind="stable")
        self._rows = rows[found]

    def row_at(self, line: int) -> int:
        """Return the row of the evidence that a line shows."""
        return int(self._rows[line])

    def line_of(self, row: int) -> int | None:
        """Return the line that shows a row, if any."""
        found = np.flatnonzero(self._rows == row)
        return int(found[0]) if len(found) else None

    @property
    def rows(self) -> np.ndarray:
        """Rows of the evidence in the order of the lines."""
        return self._rows

    def pair_at(self, line: int) -> PairOfLabels:
        """Return the pair of labels of a line."""
        assert self._merged is not None
        seam = self._merged.seams[self.row_at(line)]
        return (int(seam["low"]), int(seam["low_id"])), (int(seam["high"]), int(seam["high_id"]))

    # ----------------------------------------------------------------------------------------------------------- Qt
    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def data(self, index: QModelIndex, role: int = Qt.DisplayRole) -> Any:
        if role == Qt.DisplayRole:
            return self._text(self.row_at(index.row()), COLUMNS[index.column()])
        if role == Qt.TextAlignmentRole and index.column() > 1:
            return int(Qt.AlignRight | Qt.AlignVCenter)
        return None

    def headerData(self, section: int, orientation: Any, role: int = Qt.DisplayRole) -> Any:
        if orientation == Qt.Horizontal and role == Qt.DisplayRole:
            return COLUMNS[section]
        if orientation == Qt.Horizontal and role == Qt.ToolTipRole:
            return TIPS[section]
        return section + 1 if role == Qt.DisplayRole else None

    def sort(self, column: int, order: Any = Qt.AscendingOrder) -> None:
        self.layoutAboutToBeChanged.emit()
        self._sorted = (column, order)
        self._choose()
        self.layoutChanged.emit()

    def _text(self, row: int, name: str) -> str:
        assert self._merged is not None
        value = self._columns[name][row] if name in self._columns else 0
        if name == "result":
            return RESULTS[int(value)]
        if name == "my decision":
            return DECISIONS[int(value)]
        if name in ("IoU", "margin"):
            return f"{value:.2f}"
        if name == "contact":
            return f"{int(value):,}"
        seam = self._merged.seams[row]
        return f"{seam['low']} | {seam['high']}" if name == "tiles" else f"{seam['low_id']} | {seam['high_id']}"


def _decisions(merged: Merge, decisions: Decisions | None) -> np.ndarray:
    """Return the user's decision on each pair as an index of `DECISIONS`: int8."""
    seams, given = merged.seams, {} if decisions is None else decisions.applied
    found = np.zeros(len(seams), np.int8)
    if given:
        # For thousands of decisions on 100,000 pairs: first find labels with a decision, then pairs of them.
        numbers = merged.labels_table.numbers
        low, high = (numbers(seams[side], seams[f"{side}_id"]) for side in ("low", "high"))
        named = np.array(list(given), np.int64)
        lows, highs = (numbers(named[:, side, 0], named[:, side, 1]) for side in (0, 1))
        decision_of = dict(zip(zip(lows.tolist(), highs.tolist(), strict=True), given.values(), strict=True))
        for row in np.flatnonzero(np.isin(low, lows) & np.isin(high, highs)):
            found[row] = DECISIONS.index(decision_of.get((int(low[row]), int(high[row])), ""))
    return found


def _columns(merged: Merge, decisions: Decisions | None) -> dict[str, np.ndarray]:
    seams = merged.seams
    return {
        "result": np.where(merged.joined, 1, 2 * one_object(merged)).astype(np.int8),
        "my decision": _decisions(merged, decisions),
        "IoU": np.maximum(band_iou(seams), face_iou(seams)),
        "margin": doubt_of(merged),
        "contact": seams["contact"].sum(axis=1, dtype=np.int64),
        "tiles": seams["low"].astype(np.int64) * 2**32 + seams["high"],
        "labels": seams["low_id"].astype(np.int64) * 2**32 + seams["high_id"],
    }
