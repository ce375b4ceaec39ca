"""Merge inspector: see, question and correct every merge at a seam. The job keeps the decisions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_warning
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_blockbuster.inspect.alarm import Alarm
from napari_blockbuster.inspect.seam_report import SeamReport
from napari_blockbuster.job.job import Job
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.links import other_links
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.models import Model
from napari_blockbuster.widgets.controls import Note
from napari_blockbuster.widgets.run.control import RunControl

from .buttons import SidePanel
from .keys import InspectorKeys, key_calls
from .lists.alarm_search import AlarmSearch
from .lists.alarms_tab import AlarmsTab
from .lists.histogram import Histogram
from .lists.pair_saving import save_pairs
from .lists.pairs_tab import PairsTab
from .segment_again import SegmentAgain
from .selected.descriptions import describe_pair, planes_text, replaced_text
from .selected.label_picker import LabelPicker
from .selected.navigator import PairNavigator

__all__ = ["SeamInspector"]


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
        (self.alarms if self.currentWidget() is self.alarms else self.pairs).step(by)

    def choose(self, pair: PairOfLabels | None) -> None:
        """Select a pair in the list of pairs, or nothing at all."""
        self.alarms.choose_none()
        self.pairs.choose(pair)
        if pair is not None:
            self.setCurrentWidget(self.pairs)


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
        self._links: list[PairOfLabels] = []
        self._replaced: tuple[int, int] | None = None
        self.tabs, self.panel = InspectorTabs(), SidePanel()
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 4, 4, 4)
        row.addWidget(self.tabs, 3)
        self._panel_area = _scrolled(self.panel)
        row.addWidget(self._panel_area, 1)
        # On small screens a taller inspector would make the window taller than the screen.
        self.setMinimumHeight(135)
        self.keys = InspectorKeys(viewer, self, key_calls(control, self.tabs, self.decide))
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
        picker.finished.connect(self._picked)
        self.again.changed.connect(self._show_again)
        self.again.said.connect(self._say_again)
        self.again.replacing.connect(self._tiles_replaced)
        for refused in (self.navigator.failed, search.failed, picker.refused, self.again.refused):
            refused.connect(show_warning)

    def _wire_buttons(self) -> None:
        decisions, picking, again = self.panel.decisions, self.panel.picking, self.panel.again
        decisions.decided.connect(self.decide)
        decisions.rest_cut.connect(self.cut_rest)
        decisions.stepped.connect(self.tabs.step)
        decisions.undone.connect(self.control.undo)
        decisions.redone.connect(self.control.redo)
        decisions.export_wanted.connect(self.ask_export)
        picking.started.connect(self.picker.start)
        picking.stopped.connect(self.picker.stop)
        again.start_wanted.connect(self.segment_again)
        again.accept_wanted.connect(self.again.accept)
        again.discard_wanted.connect(self.again.discard)
        again.restore_wanted.connect(lambda: self.again.restore(self._tiles_to_restore()))

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
        self.tabs.histogram.show_values(
            merged.agreement if merged is not None else np.zeros(0),
            merged.min_iou if merged is not None and len(merged.agreement) else None,
        )
        self._describe()
        self._report_replaced()
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

    def _say_again(self, text: str, problem: bool = False) -> None:
        """Show a text about tiles that are segmented again, with the buttons that answer it."""
        self.panel.again.note.say(text, problem)
        if text:
            self._panel_area.ensureWidgetVisible(self.panel.again)

    def _describe(self) -> None:
        """Describe the selected pair or alarm, and enable its buttons."""
        pair, merged = self.tabs.pair(), self.control.unfiltered
        self.panel.decisions.set_pair(pair is not None)
        self._show_again()
        self._links = []
        if alarm := self.tabs.alarm():
            text = alarm.reason
        elif pair is None or merged is None:
            text = "Select a pair. The camera flies to it, and its two labels are drawn in blue and yellow."
        else:
            text = self._description(pair, merged)
        self.panel.decisions.offer_rest(len(self._links))
        self.panel.said.say(text)

    def _description(self, pair: PairOfLabels, merged: Merge) -> str:
        control, row, links = self.control, merged.row_of(pair), None
        decision = control.decisions.decision_on(pair) if control.decisions is not None else None
        if merged.is_one_object(pair) and row is not None and not merged.joined[row]:
            self._links = links = other_links(merged, pair)
        text = describe_pair(pair, merged, control.merged or merged, decision, links)
        job = control.job
        return text if job is None else text + planes_text(row, merged, job.grid, _axes(job))

    def _picked(self, pair: PairOfLabels) -> None:
        """Describe the pair that was clicked in the viewer."""
        self.panel.picking.release()
        self.tabs.choose(pair)
        row = self.tabs.pairs.current_row()
        if row is not None:
            self.navigator.look(row, fly=False)
        else:
            self.navigator.forget_pair()
        self._describe()

    def _tiles_replaced(self) -> None:
        """Select nothing: the labels of the selected pair get other numbers, or are no more."""
        decisions, merged = self.control.decisions, self.control.merged
        if decisions is not None and merged is not None:
            self._replaced = merged.n_objects, len(decisions.set_aside)
        self.tabs.choose(None)
        self.navigator.forget_pair()
        self._describe()

    def _report_replaced(self) -> None:
        """Say how the number of objects changed, and which decisions no longer count."""
        decisions, merged = self.control.decisions, self.control.merged
        if self._replaced is None or decisions is None or merged is None:
            return
        (n_before, n_aside), self._replaced = self._replaced, None
        n_more_aside = len(decisions.set_aside) - n_aside
        text = replaced_text(n_before, merged.n_objects, n_more_aside)
        self._say_again(text, n_more_aside > 0)

    def _show_first_picked(self, tile: int, label: int) -> None:
        self.panel.said.say(f"Label {label:,} of tile {tile:,} is picked. Click the second object.")

    def _show_alarms(self, alarms: list[Alarm]) -> None:
        self.tabs.show_alarms(alarms)
        self._describe()

    # ---------------------------------------------------------------------------------------------------- decisions
    def decide(self, decision: str | None) -> None:
        """Decide on the selected pair."""
        pair = self.tabs.pair()
        if pair is not None:
            self.control.decide([pair], decision)

    def cut_rest(self) -> None:
        """Cut the selected pair together with all that still connects its labels."""
        pair = self.tabs.pair()
        if pair is not None and self._links:
            self.control.decide([pair, *self._links], "cut")

    # ------------------------------------------------------------------------------------------------ segment again
    def _tiles_of_pair(self) -> list[int]:
        pair = self.tabs.pair()
        return sorted({tile for tile, _ in pair}) if pair is not None else []

    def _tiles_to_restore(self) -> list[int]:
        """Return the tiles of the selected pair; without one, those that were accepted last."""
        return self._tiles_of_pair() or self.again.accepted

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
        buttons.restore.setEnabled(not busy and self.again.can_restore(self._tiles_to_restore()))

    # ----------------------------------------------------------------------------------------------------------- CSV
    def ask_export(self) -> None:
        """Ask for a path, and save the table of pairs."""
        chosen, _ = QFileDialog.getSaveFileName(self, "Save pairs", "pairs.csv", "CSV (*.csv)")
        if chosen:
            self.save_csv(chosen)

    def save_csv(self, path: str | Path) -> None:
        """Save all pairs with their evidence and decisions, in a thread."""
        save_pairs(path, self.control, self)

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


def _axes(job: Job) -> tuple[str, ...]:
    return tuple(job.source.axes if job.source is not None else job.spec.image["axes"])
