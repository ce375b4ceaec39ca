"""Ranges of columns that objects must lie in, chosen in the table of objects, with undo."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QWidget

from napari_blockbuster.widgets.controls import button

__all__ = ["ColumnRanges", "ranges_text"]

Ranges = dict[str, tuple[float | None, float | None]]


class ColumnRanges(QWidget):
    """Says which objects are kept, beside a button that undoes the last choice. Hidden while all are kept.

    Attributes
    ----------
    ranges : dict of str to (float or None, float or None)
        Smallest and largest value of each column.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.ranges: Ranges = {}
        self._earlier: list[Ranges] = []
        self._said = QLabel()
        self._said.setWordWrap(True)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._said, 1)
        row.addWidget(button("Undo", "Bring back the objects that the last range left out.", self.undo))
        self.hide()

    def keep(self, ranges: Mapping[str, tuple[float | None, float | None]]) -> None:
        """Keep only objects in these ranges, and in those chosen before."""
        found = dict(self.ranges)
        for name, (low, high) in ranges.items():
            old_low, old_high = found.get(name, (None, None))
            lows = [x for x in (low, old_low) if x is not None]
            highs = [x for x in (high, old_high) if x is not None]
            found[name] = max(lows, default=None), min(highs, default=None)
        if found != self.ranges:
            self._earlier.append(self.ranges)
            self._show(found)

    def undo(self) -> None:
        """Keep the objects that were kept before the last choice."""
        if self._earlier:
            self._show(self._earlier.pop())

    def reset(self) -> None:
        """Keep all objects, without undo: another job has other objects."""
        self._earlier = []
        if self.ranges:
            self._show({})

    def _show(self, ranges: Ranges) -> None:
        self.ranges = ranges
        self._said.setText(f"Only objects with {ranges_text(ranges)}")
        self.setVisible(bool(ranges))
        self.changed.emit()


def ranges_text(ranges: Mapping[str, tuple[float | None, float | None]]) -> str:
    """Return ranges as text: ``area ≥ 50 and 0.6 ≤ sphericity ≤ 1``."""
    return " and ".join(_one(name, low, high) for name, (low, high) in ranges.items())


def _one(name: str, low: float | None, high: float | None) -> str:
    if low is None:
        return f"{name} ≤ {high:.6g}"
    return f"{name} ≥ {low:.6g}" if high is None else f"{low:.6g} ≤ {name} ≤ {high:.6g}"
