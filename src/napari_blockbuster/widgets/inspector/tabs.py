"""Tabs of the inspector: pairs, alarms, report."""

from __future__ import annotations

from qtpy.QtWidgets import QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_blockbuster.inspect.alarm import Alarm
from napari_blockbuster.inspect.seam_report import SeamReport
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.widgets.controls import Note
from napari_blockbuster.widgets.inspector.lists.alarms_tab import AlarmsTab
from napari_blockbuster.widgets.inspector.lists.histogram import Histogram
from napari_blockbuster.widgets.inspector.lists.pairs_tab import PairsTab

__all__ = ["InspectorTabs"]


class InspectorTabs(QTabWidget):
    """Pairs, alarms and seam report."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs, self.alarms, self.report = PairsTab(), AlarmsTab(), Note()
        self.histogram = Histogram()
        self.addTab(self.pairs, "Pairs")
        self.addTab(self.alarms, "Alarms")
        # A note shows itself when it has text. As a tab of its own it would cover the current tab.
        page = QWidget()
        column = QVBoxLayout(page)
        column.addWidget(self.report)
        column.addWidget(self.histogram)
        column.addStretch()
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.NoFrame)
        area.setWidget(page)
        self.addTab(area, "Report")
        # Beside the tabs, the filter takes no row of its own: small screens have few.
        self.setCornerWidget(self.pairs.bar)
        self.currentChanged.connect(lambda *_: self.pairs.bar.setVisible(self.currentWidget() is self.pairs))

    def show_alarms(self, alarms: list[Alarm]) -> None:
        """List alarms, and show their number on the tab."""
        self.setTabText(1, f"Alarms ({len(alarms):,})")
        self.alarms.show_alarms(alarms)

    def show_report(self, report: SeamReport) -> None:
        """Show a seam report, its conclusion first."""
        conclusion = report.conclusion[0].upper() + report.conclusion[1:]
        self.report.say("<br>".join([f"<b>{conclusion}.</b>", *report.lines()[:-1]]))

    def alarm(self) -> Alarm | None:
        """Return the selected alarm if alarms are in front."""
        return self.alarms.current() if self.currentWidget() is self.alarms else None

    def pair(self) -> PairOfLabels | None:
        """Return the selected pair of the list in front."""
        if self.currentWidget() is self.alarms:
            alarm = self.alarms.current()
            return alarm.pair if alarm is not None else None
        return self.pairs.current_pair()

    def step(self, by: int) -> None:
        """Select the next or previous line of the list in front."""
        (self.alarms if self.currentWidget() is self.alarms else self.pairs).step(by)

    def choose(self, pair: PairOfLabels | None) -> None:
        """Select a pair in the list of pairs, or nothing at all."""
        self.alarms.choose_none()
        self.pairs.choose(pair)
        if pair is not None:
            self.setCurrentWidget(self.pairs)
