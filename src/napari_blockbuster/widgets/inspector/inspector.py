"""Merge inspector: see, question and correct every merge at a seam. The job keeps the decisions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_blockbuster.inspect.alarm import Alarm
from napari_blockbuster.inspect.seam_report import SeamReport
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.pair_export import export_csv
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.models import Model
from napari_blockbuster.widgets.controls import Note
from napari_blockbuster.widgets.run.control import RunControl
from napari_blockbuster.widgets.runner import in_thread

from .alarm_search import AlarmSearch
from .alarms_tab import AlarmsTab
from .buttons import SidePanel
from .label_picker import LabelPicker
from .navigator import PairNavigator
from .pairs_tab import PairsTab
from .segment_again import SegmentAgain

__all__ = ["SeamInspector", "release_keys"]

KEYS = ("j", "c", "u", "Shift-u", "n", "Shift-n")
"""Join, cut, undo, redo, next, previous. The inspector takes these keys of the viewer while it is open."""


class InspectorTabs(QTabWidget):
    """Pairs, alarms and seam report."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs, self.alarms, self.report = PairsTab(), AlarmsTab(), Note()
        self.addTab(self.pairs, "Pairs")
        self.addTab(self.alarms, "Alarms")
        # A note shows itself when it has text. As a tab of its own it would cover the current tab.
        page = QWidget()
        column = QVBoxLayout(page)
        column.addWidget(self.report)
        column.addStretch()
        self.addTab(page, "Report")

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
        table = self.alarms if self.currentWidget() is self.alarms else self.pairs.table
        count = table.model().rowCount()
        if count:
            line = table.currentIndex().row()
            table.selectRow((line + by) % count if line >= 0 else 0)


class SeamInspector(QWidget):
    """Pairs, alarms and report of the merge of a `RunControl`, with buttons and keys to correct it.

    Parameters
    ----------
    viewer : napari.Viewer
    control : RunControl
    model : callable
        Return the model of the form, for tiles that are segmented again.
    """

    opened = Signal(bool)
    """The inspector was shown (True) or hidden."""

    def __init__(self, viewer: Any, control: RunControl, model: Callable[[], Model | None]) -> None:
        super().__init__()
        self.viewer, self.control, self._model = viewer, control, model
        self.navigator = PairNavigator(viewer, control, self)
        self.picker = LabelPicker(viewer, control, self)
        self.search = AlarmSearch(control, self)
        self.again = SegmentAgain(viewer, control, self)
        self._is_open = True
        self.tabs, self.panel = InspectorTabs(), SidePanel()
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 4, 4, 4)
        row.addWidget(self.tabs, 3)
        row.addWidget(_scrolled(self.panel), 1)
        # On small screens a taller inspector would make the window taller than the screen.
        self.setMinimumHeight(150)
        self._wire()
        self._wire_buttons()
        self._update()

    def _wire(self) -> None:
        tabs, search, picker = self.tabs, self.search, self.picker
        self.control.changed.connect(self._update)
        tabs.pairs.chosen.connect(self._look)
        tabs.pairs.listed.connect(self._show_rings)
        tabs.alarms.chosen.connect(self._look_at_alarm)
        tabs.currentChanged.connect(lambda *_: self._describe())
        search.alarms_found.connect(self._show_alarms)
        search.report_found.connect(tabs.show_report)
        picker.first_picked.connect(self._show_first_picked)
        picker.finished.connect(self.panel.picking.release)
        self.again.changed.connect(self._show_again)
        for refused in (self.navigator.failed, search.failed, picker.refused, self.again.refused):
            refused.connect(self._refused)

    def _wire_buttons(self) -> None:
        decisions, picking, again = self.panel.decisions, self.panel.picking, self.panel.again
        decisions.decided.connect(self.decide)
        decisions.stepped.connect(self.tabs.step)
        decisions.undone.connect(self.control.undo)
        decisions.redone.connect(self.control.redo)
        decisions.export_wanted.connect(self.ask_export)
        picking.started.connect(self.picker.start)
        picking.stopped.connect(self.picker.stop)
        again.start_wanted.connect(self.segment_again)
        again.accept_wanted.connect(self.again.accept)
        again.discard_wanted.connect(self.again.discard)
        again.restore_wanted.connect(lambda: self.again.restore(self._tiles_of_pair()))

    def bind_keys(self) -> None:
        """Take the keys of the viewer. `release_keys` gives them back."""
        calls = (
            lambda _: self.decide("join"),
            lambda _: self.decide("cut"),
            lambda _: self.control.undo(),
            lambda _: self.control.redo(),
            lambda _: self.tabs.step(1),
            lambda _: self.tabs.step(-1),
        )
        for key, call in zip(KEYS, calls, strict=True):
            self.viewer.bind_key(key, call, overwrite=True)

    # ------------------------------------------------------------------------------------------------------ showing
    def _update(self) -> None:
        """Show the current merge, and keep the selected pair."""
        if not self._is_open:
            return
        merged, decisions = self.control.unfiltered, self.control.decisions
        self.panel.decisions.undo.setEnabled(bool(decisions and decisions.can_undo))
        self.panel.decisions.redo.setEnabled(bool(decisions and decisions.can_redo))
        self._show_again()
        if merged is self.navigator.merged:
            return
        self.navigator.merged = merged
        self.tabs.pairs.show_merge(merged, decisions)
        self.panel.histogram.show_values(
            merged.agreement if merged is not None else np.zeros(0),
            merged.min_iou if merged is not None and len(merged.agreement) else None,
        )
        self._describe()
        if merged is not None:
            self.search.request()
        else:
            self.panel.picking.release()
            self.navigator.clear()

    def _show_rings(self) -> None:
        self.navigator.show_rings(self.tabs.pairs.model.rows)

    def _look(self) -> None:
        row = self.tabs.pairs.current_row()
        if row is not None:
            self.navigator.look(row)
        self._describe()

    def _look_at_alarm(self) -> None:
        alarm = self.tabs.alarms.current()
        if alarm is not None:
            self.navigator.look_at_alarm(alarm)
        self._describe()

    def _describe(self) -> None:
        """Describe the selected pair or alarm, and enable its buttons."""
        pair, merged = self.tabs.pair(), self.control.unfiltered
        self.panel.decisions.set_pair(pair is not None)
        self._show_again()
        if alarm := self.tabs.alarm():
            text = alarm.reason
        elif pair is None or merged is None:
            text = "Select a pair. The camera flies to it, and its two labels are drawn in blue and yellow."
        else:
            decision = self.control.decisions.decision_on(pair) if self.control.decisions is not None else None
            text = _description(pair, merged, self.control.merged or merged, decision)
        self.panel.said.say(text)

    def _show_first_picked(self, tile: int, label: int) -> None:
        self.panel.said.say(f"Label {label:,} of tile {tile:,} is picked. Click the second object.")

    def _refused(self, text: str) -> None:
        show_warning(text)

    def _show_alarms(self, alarms: list[Alarm]) -> None:
        self.tabs.show_alarms(alarms)
        self._describe()

    # ---------------------------------------------------------------------------------------------------- decisions
    def decide(self, decision: str | None) -> None:
        """Decide on the selected pair."""
        pair = self.tabs.pair()
        if pair is not None:
            self.control.decide([pair], decision)

    # ------------------------------------------------------------------------------------------------ segment again
    def _tiles_of_pair(self) -> list[int]:
        pair = self.tabs.pair()
        return sorted({tile for tile, _ in pair}) if pair is not None else []

    def segment_again(self) -> None:
        """Segment the tiles of the selected pair with the settings of the form."""
        tiles, model = self._tiles_of_pair(), self._model()
        if not tiles:
            show_warning("Select a pair first. Its tiles are segmented again.")
        elif model is None:
            show_warning("The model of the form cannot be used. See the reason below it.")
        else:
            self.again.start(tiles, model)

    def _show_again(self) -> None:
        buttons, busy = self.panel.again, self.control.is_busy
        waiting = bool(self.again.tiles) and not busy
        buttons.accept.setEnabled(waiting)
        buttons.discard.setEnabled(waiting)
        buttons.start.setEnabled(self.tabs.pair() is not None and not busy)
        buttons.restore.setEnabled(not busy and self.again.can_restore(self._tiles_of_pair()))

    # ----------------------------------------------------------------------------------------------------------- CSV
    def ask_export(self) -> None:
        """Ask for a path, and save the table of pairs."""
        chosen, _ = QFileDialog.getSaveFileName(self, "Save pairs", "pairs.csv", "CSV (*.csv)")
        if chosen:
            self.save_csv(chosen)

    def save_csv(self, path: str | Path) -> None:
        """Save all pairs with their evidence and decisions, in a thread."""
        job, merged = self.control.job, self.control.merged
        if job is None or merged is None:
            show_warning("There is no merge to save yet.")
            return
        source = job.source
        where = {} if source is None else {"axes": source.axes, "scale": source.scale, "units": source.units}
        decisions = self.control.decisions

        def saved(_: Any) -> None:
            show_info(f"{count_text(len(merged.seams), 'pair')} saved to {path}")

        in_thread(
            lambda: export_csv(path, merged, decisions, **where),
            saved,
            lambda error: self._refused(f"The pairs could not be saved: {error}"),
            owner=self,
        )

    # -------------------------------------------------------------------------------------------------- open, closed
    def showEvent(self, event: Any) -> None:
        """Show the layers again when the dock is opened again."""
        super().showEvent(event)
        # Minimizing the window does not hide the inspector.
        if not event.spontaneous():
            self._is_open = True
            self._update()
            self._show_rings()
            row = self.tabs.pairs.current_row()
            if row is not None:
                self.navigator.look(row, fly=False)
            self.opened.emit(True)

    def hideEvent(self, event: Any) -> None:
        """Remove the layers when the dock is closed."""
        if not event.spontaneous():
            self._is_open = False
            self.panel.picking.release()
            self.navigator.clear()
            self.opened.emit(False)
        super().hideEvent(event)


def _scrolled(panel: QWidget) -> QScrollArea:
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
    area.setFrameShape(QScrollArea.NoFrame)
    area.setMinimumWidth(panel.minimumSizeHint().width() + area.verticalScrollBar().sizeHint().width())
    area.setWidget(panel)
    return area


def _description(pair: PairOfLabels, merged: Merge, kept: Merge, decision: str | None) -> str:
    """Describe a pair: whether it is one object, the user's decision, and labels that the object filter excludes."""
    (low_tile, low), (high_tile, high) = pair
    state = "one object" if merged.is_one_object(pair) else "two objects"
    text = f"Label {low:,} of tile {low_tile:,} (blue) and label {high:,} of tile {high_tile:,} (yellow) are <b>{state}</b>."
    if decision:
        text += f" Your decision: {decision}."
    excluded = [f"label {label:,} of tile {tile:,}" for tile, label in pair if not kept.object_of(tile, label)]
    if excluded:
        text += f" The object filter excludes {' and '.join(excluded)}."
    return text


def release_keys(viewer: Any) -> None:
    """Give the inspector's keys back to the viewer."""
    for key in KEYS:
        viewer.bind_key(key, None)
