"""Table model of the pairs of a merge. It sorts and filters numpy columns, which is fast for 100,000 rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt

from napari_blockbuster.inspect.doubt import doubt_of, margin_text
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
    "Difference between the agreement and the threshold. A small margin is doubtful. The agreement can be lower than the IoU, "
    "because it depends on the sizes of the labels as well. Point at a number to see why.",
    "Size of the contact across the seam.",
    "The two tiles.",
    "Number of the label in each tile.",
)
DECISIONS = ("", "join", "cut")
RESULTS = ("separate", "joined", "via others")
FILTERS = ("doubtful", "all", "joined", "separate", "my decisions")


class PairsModel(QAbstractTableModel):
    """One line for each pair of labels at a seam, and for each other pair that the user decided on.

    `row_at` maps lines to rows of the evidence. Pairs that do not meet at a seam have the rows after the last one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._merged: Merge | None = None
        self._far: list[PairOfLabels] = []
        self._columns: dict[str, np.ndarray] = {}
        self._rows = np.zeros(0, np.intp)
        self._sorted = (COLUMNS.index("margin"), Qt.AscendingOrder)
        self._filter, self._band = FILTERS[0], 0.15

    # ------------------------------------------------------------------------------------------------------ content
    def show(self, merged: Merge | None, decisions: Decisions | None) -> None:
        """Show the pairs of a merge."""
        self.beginResetModel()
        self._merged = merged
        self._columns, self._far = ({}, []) if merged is None else _columns(merged, decisions)
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
        # A stable sort keeps the order of equal rows. NaN comes last in both directions.
        found = np.argsort(keys if order == Qt.AscendingOrder else -keys.astype(np.float64), kind="stable")
        self._rows = rows[found]

    def row_at(self, line: int) -> int:
        """Return the row of the evidence that a line shows."""
        return int(self._rows[line])

    def find(self, pair: PairOfLabels) -> int | None:
        """Return the line that shows a pair, if any."""
        if self._merged is None:
            return None
        row = self._merged.row_of(pair)
        if row is None and pair in self._far:
            row = len(self._merged.seams) + self._far.index(pair)
        return None if row is None else self.line_of(row)

    def line_of(self, row: int) -> int | None:
        """Return the line that shows a row, if any."""
        found = np.flatnonzero(self._rows == row)
        return int(found[0]) if len(found) else None

    @property
    def rows(self) -> np.ndarray:
        """Rows of the evidence in the order of the lines."""
        return self._rows

    @property
    def seam_rows(self) -> np.ndarray:
        """Rows of the pairs at seams, in the order of the lines."""
        return self._rows[self._rows < (0 if self._merged is None else len(self._merged.seams))]

    @property
    def n_pairs(self) -> int:
        """Number of pairs, listed or not."""
        return len(self._columns["result"]) if self._columns else 0

    def pair_at(self, line: int) -> PairOfLabels:
        """Return the pair of labels of a line."""
        return self._pair(self.row_at(line))

    def _pair(self, row: int) -> PairOfLabels:
        assert self._merged is not None
        if row >= len(self._merged.seams):
            return self._far[row - len(self._merged.seams)]
        seam = self._merged.seams[row]
        return (int(seam["low"]), int(seam["low_id"])), (int(seam["high"]), int(seam["high_id"]))

    # ----------------------------------------------------------------------------------------------------------- Qt
    def rowCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def data(self, index: QModelIndex, role: int = Qt.DisplayRole) -> Any:
        if role == Qt.DisplayRole:
            return self._text(self.row_at(index.row()), COLUMNS[index.column()])
        if role == Qt.ToolTipRole and COLUMNS[index.column()] == "margin":
            return self._why(self.row_at(index.row()))
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
            return "–" if np.isnan(value) else f"{value:.2f}"
        if name == "contact":
            return f"{int(value):,}"
        (low, low_id), (high, high_id) = self._pair(row)
        return f"{low} | {high}" if name == "tiles" else f"{low_id} | {high_id}"

    def _why(self, row: int) -> str:
        merged = self._merged
        assert merged is not None
        if row >= len(merged.seams):
            return "The two labels do not meet at a seam."
        if np.isnan(self._columns["margin"][row]):
            return "The two labels neither touch nor overlap. No threshold joins them."
        return margin_text(merged, row)


def _decisions(merged: Merge, decisions: Decisions | None) -> tuple[np.ndarray, list[PairOfLabels]]:
    """Return the user's decision on each pair at a seam as an index of `DECISIONS`: int8; and the other pairs."""
    seams, given = merged.seams, {} if decisions is None else decisions.applied
    found = np.zeros(len(seams), np.int8)
    if given:
        # For thousands of decisions on 100,000 pairs: first find labels with a decision, then pairs of them.
        numbers = merged.labels_table.numbers
        low, high = (numbers(seams[side], seams[f"{side}_id"]) for side in ("low", "high"))
        named = np.array(list(given), np.int64)
        lows, highs = (numbers(named[:, side, 0], named[:, side, 1]) for side in (0, 1))
        decision_of = dict(zip(zip(lows.tolist(), highs.tolist(), strict=True), given.values(), strict=True))
        far = dict(zip(zip(lows.tolist(), highs.tolist(), strict=True), given, strict=True))
        for row in np.flatnonzero(np.isin(low, lows) & np.isin(high, highs)):
            numbers_of_row = int(low[row]), int(high[row])
            found[row] = DECISIONS.index(decision_of.get(numbers_of_row, ""))
            far.pop(numbers_of_row, None)
        return found, list(far.values())
    return found, []


def _columns(merged: Merge, decisions: Decisions | None) -> tuple[dict[str, np.ndarray], list[PairOfLabels]]:
    """Return the columns, and the pairs of their last rows, which do not meet at a seam."""
    seams, margin = merged.seams, doubt_of(merged)
    decided, far = _decisions(merged, decisions)
    ends = np.array(far, np.int64).reshape(-1, 2, 2)
    given = [DECISIONS.index(decisions.applied[pair]) for pair in far] if decisions is not None else []
    same = [merged.is_one_object(pair) for pair in far]
    result = [1 if one and kind == DECISIONS.index("join") else 2 * one for one, kind in zip(same, given, strict=True)]
    unknown = np.full(len(far), np.nan)
    tiles, labels = (
        np.stack([seams["low" + end], seams["high" + end]], axis=1).astype(np.int64) for end in ("", "_id")
    )
    tiles, labels = np.concatenate([tiles, ends[:, :, 0]]), np.concatenate([labels, ends[:, :, 1]])
    return {
        "result": np.append(np.where(merged.joined, 1, 2 * one_object(merged)), result).astype(np.int8),
        "my decision": np.append(decided, given).astype(np.int8),
        "IoU": np.append(np.maximum(band_iou(seams), face_iou(seams)), unknown),
        "margin": np.append(np.where(np.isinf(margin), np.nan, margin), unknown),
        "contact": np.append(seams["contact"].sum(axis=1, dtype=np.int64), np.zeros(len(far), np.int64)),
        "tiles": tiles[:, 0] * 2**32 + tiles[:, 1],
        "labels": labels[:, 0] * 2**32 + labels[:, 1],
    }, far
