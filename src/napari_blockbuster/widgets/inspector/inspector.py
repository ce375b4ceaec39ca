"""The merge inspector: every boundary merge can be seen, questioned and corrected. What it decides is kept by the job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_blockbuster.inspect.alarm import Alarm
from napari_blockbuster.inspect.seam_report import SeamReport
from napari_blockbuster.merge.pair_export import export_csv
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.models import Model
from napari_blockbuster.widgets.controls import Note, button
from napari_blockbuster.widgets.run.control import RunControl
from napari_blockbuster.widgets.run.runner import in_thread

from .control import Inspecting
from .histogram import Histogram
from .pairs_tab import PairsTab
from .segment_again import SegmentAgain

__all__ = ["SeamInspector", "release_keys"]

KEYS = ("j", "c", "u", "Shift-u", "n", "Shift-n")
"""Join, cut, undo, redo, next, previous: the viewer's while the inspector is open."""


class SeamInspector(QWidget):
    """Pairs, alarms and report of the merge of a `RunControl`, with buttons and keys to join, cut, undo and redo.

    Parameters
    ----------
    viewer : napari.Viewer
    control : RunControl
    model : callable
        Gives the model of the form, for tiles that are segmented again.
    """

    opened = Signal(bool)
    """It was shown, or hidden."""

    def __init__(self, viewer: Any, control: RunControl, model: Callable[[], Model | None]) -> None:
        super().__init__()
        self.viewer, self.control, self._model = viewer, control, model
        self.inspecting = Inspecting(viewer, control, self)
        self.again = SegmentAgain(viewer, control, self)
        # Alarms take as long as several merges: they are looked for when the threshold has come to rest.
        self._quiet = QTimer(self)
        self._quiet.setSingleShot(True)
        self._quiet.setInterval(700)
        self._quiet.timeout.connect(self.inspecting.look_for_alarms)
        self._open = True
        self._lay_out()
        self._wire()
        self._update()

    # ------------------------------------------------------------------------------------------------------- layout
    def _lay_out(self) -> None:
        self.tabs = QTabWidget()
        self.list = PairsTab()
        self.pairs, self.table = self.list.model, self.list.table
        self.filter, self.band, self.count = self.list.filter, self.list.band, self.list.count
        self.tabs.addTab(self.list, "Pairs")
        self.alarms = QTableWidget(0, 3)
        self.alarms.setHorizontalHeaderLabels(["kind", "severity", "reason"])
        self.alarms.horizontalHeader().setStretchLastSection(True)
        self.alarms.setSelectionBehavior(QAbstractItemView.SelectRows)
        self.alarms.setEditTriggers(QAbstractItemView.NoEditTriggers)
        self.alarms.setWordWrap(True)
        self.tabs.addTab(self.alarms, "Alarms")
        self.tabs.addTab(self._report_tab(), "Report")
        side = QVBoxLayout()
        self.histogram = Histogram()
        self.said = Note()
        side.addWidget(self.histogram)
        side.addWidget(self.said)
        side.addLayout(self._verdict_row())
        side.addLayout(self._history_row())
        side.addLayout(self._click_row())
        side.addLayout(self._again_row())
        side.addStretch()
        whole = QHBoxLayout(self)
        whole.setContentsMargins(4, 4, 4, 4)
        whole.addWidget(self.tabs, 3)
        right = QWidget()
        right.setLayout(side)
        right.setMinimumWidth(270)
        whole.addWidget(right, 1)
        self.setMinimumHeight(240)

    def _report_tab(self) -> QWidget:
        # A note shows itself when it has something to say: as a page of its own it would lie over the page in front.
        page = QWidget()
        column = QVBoxLayout(page)
        self.report = Note()
        column.addWidget(self.report)
        column.addStretch()
        return page

    def _verdict_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self.join = button(
            "Join (J)", "These two labels are one object, whatever the rule says.", lambda: self.decide("join")
        )
        self.cut = button(
            "Cut (C)", "These two labels are two objects, whatever the rule says.", lambda: self.decide("cut")
        )
        self.forget = button("Leave to the rule", "Take back your verdict on this pair.", lambda: self.decide(None))
        for each in (self.join, self.cut, self.forget):
            row.addWidget(each)
        return row

    def _history_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self.previous = button("◀", "Previous (Shift+N)", lambda: self.step(-1))
        self.next = button("▶", "Next (N)", lambda: self.step(1))
        self.undo = button("Undo (U)", "Take back the last verdict.", self.control.undo)
        self.redo = button("Redo", "Give the verdict that was taken back (Shift+U).", self.control.redo)
        self.export = button("CSV…", "Save all pairs with their evidence and your verdicts.", self.ask_export)
        for each in (self.previous, self.next, self.undo, self.redo, self.export):
            row.addWidget(each)
        return row

    def _click_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self.join_two = button(
            "Join two clicked", "Then click two objects in the viewer: they become one.", lambda: None
        )
        self.cut_two = button(
            "Cut two clicked", "Then click both parts of an object, one on each side of a seam.", lambda: None
        )
        for each in (self.join_two, self.cut_two):
            each.setCheckable(True)
            row.addWidget(each)
        return row

    def _again_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self.segment_again = button(
            "Segment again",
            "Segment the tiles of this pair with the model and settings of the form, and compare.",
            self.try_again,
        )
        self.accept = button("Accept", "Put the new tiles in the place of the old ones.", self.again.accept)
        self.discard = button("Discard", "Leave the tiles as they were.", self.again.discard)
        self.go_back = button(
            "Go back", "Put the tiles of the run back.", lambda: self.again.go_back(self._tiles_of_pair())
        )
        for each in (self.segment_again, self.accept, self.discard, self.go_back):
            row.addWidget(each)
        return row

    def _wire(self) -> None:
        self.again.said.connect(self._refused)
        self.again.changed.connect(self._show_again)
        self.control.changed.connect(self._update)
        self.list.chosen.connect(self._look)
        self.list.listed.connect(self._show_rings)
        self.alarms.currentCellChanged.connect(lambda line, *_: self._look_at_alarm(line))
        self.tabs.currentChanged.connect(lambda *_: self._describe())
        self.inspecting.alarms_found.connect(self._show_alarms)
        self.inspecting.report_found.connect(self._show_report)
        self.inspecting.said.connect(self._refused)
        self.inspecting.picked.connect(self._stop_picking)
        self.join_two.toggled.connect(lambda on: self._pick(on, "join", self.cut_two))
        self.cut_two.toggled.connect(lambda on: self._pick(on, "cut", self.join_two))

    def bind_keys(self) -> None:
        """Take the keys of the viewer; `release_keys` gives them back."""
        calls = (
            lambda _: self.decide("join"),
            lambda _: self.decide("cut"),
            lambda _: self.control.undo(),
            lambda _: self.control.redo(),
            lambda _: self.step(1),
            lambda _: self.step(-1),
        )
        for key, call in zip(KEYS, calls, strict=True):
            self.viewer.bind_key(key, call, overwrite=True)

    # ------------------------------------------------------------------------------------------------------ showing
    def _update(self) -> None:
        """Show the merge as it is now, with the line that was chosen."""
        if not self._open:
            # Rings, alarms and the table are made for who sees them.
            return
        merged, decisions = self.control.unfiltered, self.control.decisions
        self.undo.setEnabled(bool(decisions and decisions.can_undo))
        self.redo.setEnabled(bool(decisions and decisions.can_redo))
        self._show_again()
        if merged is self.inspecting.merged:
            return
        self.inspecting.merged = merged
        self.list.show_merge(merged, decisions)
        self.histogram.show_values(
            merged.agreement if merged is not None else np.zeros(0),
            merged.min_iou if merged is not None and len(merged.agreement) else None,
        )
        self._describe()
        if merged is not None:
            self._quiet.start()
        else:
            self._stop_picking()
            self.inspecting.clear()

    def _show_rings(self) -> None:
        self.inspecting.show_rings(self.pairs.rows)

    def current_pair(self) -> PairOfLabels | None:
        """The pair that a verdict would be about."""
        if self.tabs.currentWidget() is self.alarms:
            alarm = self.inspecting.alarm(self.alarms.currentRow())
            return alarm.pair if alarm is not None else None
        return self.list.current_pair()

    def _look(self) -> None:
        row = self.list.current_row()
        if row is not None:
            self.inspecting.look(row)
        self._describe()

    def _look_at_alarm(self, line: int) -> None:
        alarm = self.inspecting.alarm(line)
        if alarm is not None:
            self.inspecting.look_at_alarm(alarm)
        self._describe()

    def _describe(self) -> None:
        pair, merged = self.current_pair(), self.control.unfiltered
        for each in (self.join, self.cut, self.forget):
            each.setEnabled(pair is not None)
        self._show_again()
        if self.tabs.currentWidget() is self.alarms and (alarm := self.inspecting.alarm(self.alarms.currentRow())):
            self.said.say(alarm.reason)
        elif pair is None or merged is None:
            self.said.say("Choose a pair: the camera flies there, its two labels are blue and yellow.")
        else:
            (a, i), (b, k) = pair
            verdict = self.control.decisions.decision_on(pair) if self.control.decisions is not None else None
            same = merged.is_one_object(pair)
            kept = self.control.merged or merged
            left_out = " and ".join(f"label {n} of tile {tile}" for tile, n in pair if not kept.object_of(tile, n))
            self.said.say(
                f"Label {i} of tile {a} (blue) and label {k} of tile {b} (yellow) are "
                f"{'<b>one object</b>' if same else '<b>two objects</b>'}"
                f"{f'; you said {verdict}' if verdict else ''}."
                f"{f' The filter leaves out {left_out}.' if left_out else ''}"
            )

    def _refused(self, text: str) -> None:
        show_warning(text)

    def _show_alarms(self, alarms: list[Alarm]) -> None:
        self.tabs.setTabText(1, f"Alarms ({len(alarms):,})")
        self.alarms.setRowCount(len(alarms))
        for line, alarm in enumerate(alarms):
            for column, text in enumerate((alarm.kind, f"{alarm.severity:.1f}", alarm.reason)):
                self.alarms.setItem(line, column, QTableWidgetItem(text))
            self.alarms.item(line, 2).setToolTip(alarm.reason)
        self._describe()

    def _show_report(self, report: SeamReport) -> None:
        verdict = report.conclusion[0].upper() + report.conclusion[1:]
        self.report.say("<br>".join([f"<b>{verdict}.</b>", *report.lines()[:-1]]))

    # ----------------------------------------------------------------------------------------------------- deciding
    def decide(self, verdict: str | None) -> None:
        """Give a verdict on the pair that is looked at."""
        pair = self.current_pair()
        if pair is not None:
            self.control.decide([pair], verdict)

    def _pick(self, on: bool, verdict: str, other: QPushButton) -> None:
        if on:
            other.setChecked(False)
            self.inspecting.pick(verdict)
        elif not other.isChecked():
            self.inspecting.pick(None)

    def _stop_picking(self) -> None:
        self.join_two.setChecked(False)
        self.cut_two.setChecked(False)

    def _tiles_of_pair(self) -> list[int]:
        pair = self.current_pair()
        return sorted({tile for tile, _ in pair}) if pair is not None else []

    def try_again(self) -> None:
        """Segment the tiles of the pair that is looked at with the form's settings."""
        tiles, model = self._tiles_of_pair(), self._model()
        if not tiles:
            show_warning("Choose a pair first: its tiles are segmented again.")
        elif model is None:
            show_warning("The model of the form cannot be used; the reason stands below it.")
        else:
            self.again.start(tiles, model)

    def _show_again(self) -> None:
        waiting = bool(self.again.tiles) and not self.control.is_busy
        self.accept.setEnabled(waiting)
        self.discard.setEnabled(waiting)
        self.segment_again.setEnabled(self.current_pair() is not None and not self.control.is_busy)
        self.go_back.setEnabled(not self.control.is_busy and self.again.can_go_back(self._tiles_of_pair()))

    def step(self, by: int) -> None:
        """The next or previous line of the list in front."""
        table = self.alarms if self.tabs.currentWidget() is self.alarms else self.table
        count = table.model().rowCount()
        if count:
            line = table.currentIndex().row()
            table.selectRow((line + by) % count if line >= 0 else 0)

    def ask_export(self) -> None:
        """Ask where, and save the table of pairs."""
        chosen, _ = QFileDialog.getSaveFileName(self, "Save pairs", "pairs.csv", "CSV (*.csv)")
        if chosen:
            self.save_csv(chosen)

    def save_csv(self, path: str | Path) -> None:
        """Save all pairs with evidence, decisions and verdicts, in a thread."""
        job, merged = self.control.job, self.control.merged
        if job is None or merged is None:
            show_warning("There is no merge to save yet.")
            return
        source = job.source
        where = {} if source is None else {"axes": source.axes, "scale": source.scale, "units": source.units}
        decisions = self.control.decisions

        def saved(_: Any) -> None:
            show_info(f"{len(merged.seams):,} pairs saved to {path}")

        in_thread(
            lambda: export_csv(path, merged, decisions, **where),
            saved,
            lambda error: self._refused(f"The pairs were not saved: {error}"),
            owner=self,
        )

    def showEvent(self, event: Any) -> None:
        """Opening the dock again brings its layers back."""
        super().showEvent(event)
        # A window that was minimised had hidden nothing by itself.
        if not event.spontaneous():
            self._open = True
            self._update()
            self._show_rings()
            row = self.list.current_row()
            if row is not None:
                self.inspecting.look(row, fly=False)
            self.opened.emit(True)

    def hideEvent(self, event: Any) -> None:
        """Closing the dock takes its layers away."""
        if not event.spontaneous():
            self._open = False
            self._stop_picking()
            self.inspecting.clear()
            self.opened.emit(False)
        super().hideEvent(event)


def release_keys(viewer: Any) -> None:
    """Give the inspector's keys back to the viewer."""
    for key in KEYS:
        viewer.bind_key(key, None)
