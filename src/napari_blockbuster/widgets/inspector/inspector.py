"""Merge inspector: see, question and correct every merge at a seam. The job keeps the decisions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_warning
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QScrollArea, QWidget

from napari_blockbuster.inspect.alarm import Alarm
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.models import Model
from napari_blockbuster.widgets.inspector.lists.alarm_search import AlarmSearch
from napari_blockbuster.widgets.inspector.lists.pair_saving import save_pairs
from napari_blockbuster.widgets.inspector.selected.descriptions import pair_text
from napari_blockbuster.widgets.inspector.selected.label_picker import LabelPicker
from napari_blockbuster.widgets.inspector.selected.navigator import PairNavigator
from napari_blockbuster.widgets.run.control.control import RunControl

from .buttons import SidePanel
from .keys import InspectorKeys, key_calls
from .second_try import SecondTryActions
from .tabs import InspectorTabs

__all__ = ["SeamInspector"]

LEAST_HEIGHT = 84
"""Pixels. On small screens a taller inspector would make the window taller than the screen."""


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
        self.viewer, self.control = viewer, control
        self.navigator = PairNavigator(viewer, control, self)
        self.picker = LabelPicker(viewer, control, self)
        self.search = AlarmSearch(control, self)
        self._is_open = True
        self._links: list[PairOfLabels] = []
        self.tabs, self.panel = InspectorTabs(), SidePanel()
        self._second = SecondTryActions(viewer, control, self.panel.again, self.tabs.pair, model, self)
        row = QHBoxLayout(self)
        row.setContentsMargins(4, 2, 4, 2)
        row.addWidget(self.tabs, 3)
        self._panel_area = _scrolled(self.panel)
        row.addWidget(self._panel_area, 1)
        self.setMinimumHeight(LEAST_HEIGHT)
        self.keys = InspectorKeys(viewer, self, key_calls(control, self.tabs, self.decide))
        self._wire()
        self._wire_buttons()
        self._update()

    @property
    def again(self) -> Any:
        """The second try of tiles."""
        return self._second.again

    def _wire(self) -> None:
        tabs, search, picker = self.tabs, self.search, self.picker
        self.control.changed.connect(self._update)
        tabs.pairs.chosen.connect(self._look)
        tabs.pairs.listed.connect(self._show_rings)
        tabs.alarms.chosen.connect(self._look_at_alarm)
        tabs.currentChanged.connect(lambda *_: self._describe())
        search.alarms_found.connect(self._show_alarms)
        search.report_found.connect(tabs.show_report)
        picker.said.connect(self.panel.picking.note.say)
        picker.first_picked.connect(self.navigator.show_label)
        picker.finished.connect(self._picked)
        self._second.replaced.connect(self._choose_none)
        self._second.answered.connect(lambda: self._panel_area.ensureWidgetVisible(self.panel.again))
        for refused in (self.navigator.failed, search.failed, picker.refused):
            refused.connect(show_warning)

    def _wire_buttons(self) -> None:
        decisions, picking = self.panel.decisions, self.panel.picking
        decisions.decided.connect(self.decide)
        decisions.rest_cut.connect(self.cut_rest)
        decisions.stepped.connect(self.tabs.step)
        decisions.undone.connect(self.control.undo)
        decisions.redone.connect(self.control.redo)
        decisions.export_wanted.connect(self.ask_export)
        picking.started.connect(self.picker.start)
        picking.stopped.connect(self.picker.stop)

    # ------------------------------------------------------------------------------------------------------ showing
    def _update(self) -> None:
        """Show the current merge, and keep the selected pair."""
        if not self._is_open:
            return
        merged, decisions = self.control.unfiltered, self.control.decisions
        self.panel.decisions.undo.setEnabled(bool(decisions and decisions.can_undo))
        self.panel.decisions.redo.setEnabled(bool(decisions and decisions.can_redo))
        self._second.show()
        if merged is self.navigator.merged:
            return
        self.navigator.merged = merged
        self.tabs.pairs.show_merge(merged, decisions)
        self.tabs.histogram.show_values(
            merged.agreement if merged is not None else np.zeros(0),
            merged.min_iou if merged is not None and len(merged.agreement) else None,
        )
        self._describe()
        self._second.report()
        if merged is not None:
            self.search.request()
        else:
            self.panel.picking.release()
            self.navigator.clear()

    def _show_rings(self) -> None:
        self.navigator.show_rings(self.tabs.pairs.model.seam_rows)

    def _look(self, fly: bool = True) -> None:
        pair = self.tabs.pairs.current_pair()
        if pair is not None:
            self.navigator.look(pair, fly)
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
        self._second.show()
        self._links = []
        if alarm := self.tabs.alarm():
            text = alarm.reason
        elif pair is None or merged is None:
            text = "Select a pair. The camera flies to it, and its two labels are drawn in blue and yellow."
        else:
            text, self._links = pair_text(pair, merged, self.control)
        self.panel.decisions.offer_rest(len(self._links))
        self.panel.said.say(text)

    def _picked(self, pair: PairOfLabels) -> None:
        """Describe the pair that was clicked in the viewer."""
        self.panel.picking.release()
        self.tabs.choose(pair)
        self._look(fly=False)

    def _choose_none(self) -> None:
        self.tabs.choose(None)
        self.navigator.forget_pair()
        self._describe()

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
            self._look(fly=False)
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
