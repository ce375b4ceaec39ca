"""List of alarms."""

from __future__ import annotations

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
        self.currentCellChanged.connect(lambda *_: self.chosen.emit())

    def show_alarms(self, alarms: list[Alarm]) -> None:
        """List alarms."""
        self._alarms = alarms
        self.setRowCount(len(alarms))
        for line, alarm in enumerate(alarms):
            for column, text in enumerate((alarm.kind, f"{alarm.severity:.1f}", alarm.reason)):
                self.setItem(line, column, QTableWidgetItem(text))
            self.item(line, 2).setToolTip(alarm.reason)

    def current(self) -> Alarm | None:
        """Return the selected alarm."""
        line = self.currentRow()
        return self._alarms[line] if 0 <= line < len(self._alarms) else None
