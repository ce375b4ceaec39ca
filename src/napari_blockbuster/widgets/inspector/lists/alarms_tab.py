"""List of alarms."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QAbstractItemView, QTableWidget, QTableWidgetItem

from napari_blockbuster.inspect.alarm import Alarm

__all__ = ["AlarmsTab"]


class AlarmsTab(QTableWidget):
    """Table of alarms."""

    chosen = Signal()
    """Another alarm is selected."""

    def __init__(self) -> None:
        super().__init__(0, 3)
        self._alarms: list[Alarm] = []
        self.setHorizontalHeaderLabels(["kind", "severity", "reason"])
        self.horizontalHeader().setStretchLastSection(True)
        self.setSelectionBehavior(QAbstractItemView.SelectRows)
        self.setEditTriggers(QAbstractItemView.NoEditTriggers)
        self.setWordWrap(True)
        self.setMinimumHeight(40)
        self.currentCellChanged.connect(lambda *_: self.chosen.emit())

    def show_alarms(self, alarms: list[Alarm]) -> None:
        """List alarms. The selected alarm stays selected if it is among them; otherwise none is."""
        before = self.current()
        self.blockSignals(True)
        self._alarms = alarms
        self.setRowCount(len(alarms))
        for line, alarm in enumerate(alarms):
            for column, text in enumerate((alarm.kind, f"{alarm.severity:.1f}", alarm.reason)):
                self.setItem(line, column, QTableWidgetItem(text))
            self.item(line, 2).setToolTip(alarm.reason)
        same = [] if before is None else [line for line, alarm in enumerate(alarms) if _key(alarm) == _key(before)]
        if same:
            self.selectRow(same[0])
        else:
            self.choose_none()
        self.blockSignals(False)

    def choose_none(self) -> None:
        """Select no alarm, without a signal."""
        self.blockSignals(True)
        self.setCurrentItem(None)
        self.clearSelection()
        self.blockSignals(False)

    def step(self, by: int) -> None:
        """Select the next or previous line."""
        count, line = self.rowCount(), self.currentRow()
        if count:
            self.selectRow((line + by) % count if line >= 0 else 0)

    def current(self) -> Alarm | None:
        """Return the selected alarm."""
        line = self.currentRow()
        return self._alarms[line] if 0 <= line < len(self._alarms) else None


def _key(alarm: Alarm) -> object:
    """Return what identifies an alarm across merges: its kind, and its pair or its place."""
    return alarm.kind, alarm.pair or tuple(np.round(alarm.place).tolist())
