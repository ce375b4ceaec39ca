"""Dock with a row for every object: sort, filter, plot, color, and find objects in the viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFileDialog, QLabel, QSizePolicy, QSplitter, QVBoxLayout, QWidget

from napari_blockbuster.machine.units import count_text
from napari_blockbuster.widgets.controls import Note, button, row_of
from napari_blockbuster.widgets.runner import in_thread
from napari_blockbuster.widgets.table.plots.plot import PlotPanel

from .clicks import LabelClicks
from .content import TableContent
from .export import SUFFIXES, export_rows
from .expression import ranges_of
from .follower import TableFollower
from .object_list import ObjectList
from .painter import TablePainter
from .subjects import JobSubject

__all__ = ["ObjectTable"]

NO_COLOR = "—"


class ObjectTable(QWidget):
    """Table and plots of the objects of a labels layer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.follower = TableFollower(napari_viewer, self)
        self.painter = TablePainter(napari_viewer, self)
        self.objects, self.plot, self.note = ObjectList(), PlotPanel(), Note()
        self.clicks = LabelClicks(napari_viewer, self._layer, self.select_label)
        self.bar = TableBar()
        self.selected: np.ndarray | None = None
        """Mask of the rows of the content that are selected; None if there are none."""
        self._lay_out()
        self._wire()

    def _lay_out(self) -> None:
        parts = QSplitter(Qt.Horizontal)
        parts.addWidget(self.objects)
        parts.addWidget(self.plot)
        parts.setStretchFactor(0, 3)
        parts.setStretchFactor(1, 2)
        parts.setSizes([600, 400])
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 4)
        column.setSpacing(3)
        column.addWidget(self.bar)
        column.addWidget(self.note)
        column.addWidget(parts, 1)
        self.setMinimumHeight(136)

    def _wire(self) -> None:
        follower, objects, plot, bar = self.follower, self.objects, self.plot, self.bar
        follower.subjects_changed.connect(self._show_subjects)
        follower.content_changed.connect(self._show_content)
        follower.said.connect(self.note.say)
        objects.chosen.connect(self._row_chosen)
        objects.listed.connect(self._listed)
        plot.lassoed.connect(self.select_rows)
        self.painter.failed.connect(show_warning)
        bar.subject.activated.connect(self._subject_chosen)
        bar.color.currentTextChanged.connect(self._color_chosen)
        bar.again.clicked.connect(lambda *_: follower.update(again=True))
        bar.only.clicked.connect(lambda *_: self._show_selected_only())
        bar.keep.clicked.connect(lambda *_: self.keep_listed())
        bar.undo.clicked.connect(lambda *_: self._want_ranges(None))
        bar.export.clicked.connect(lambda *_: self.ask_export())

    # ------------------------------------------------------------------------------------------------------ content
    @property
    def content(self) -> TableContent | None:
        """The table that is shown."""
        return self.objects.content

    def _layer(self) -> Any:
        subject = self.follower.subject
        return subject.layer if subject is not None else None

    def _show_subjects(self) -> None:
        self.bar.show_subjects(self.follower)
        self._subject_changed()

    def _subject_chosen(self, number: int) -> None:
        if 0 <= number < len(self.follower.subjects):
            self.follower.watch(self.follower.subjects[number])
            self._subject_changed()

    def _subject_changed(self) -> None:
        self.painter.clear()
        self.bar.adapt(self.follower.subject)

    def _show_content(self, content: TableContent | None) -> None:
        self.selected = None
        self.painter.mark(None, np.zeros(0, int))
        self.bar.show_columns([] if content is None else content.numeric)
        self.plot.show_content(content)
        self.objects.show_content(content)
        self.painter.color(self.follower.subject, content, self.bar.color_column)
        self.painter.fill_features(self.follower.subject, content)
        self.bar.show_selected(0)
        self.bar.adapt(self.follower.subject)

    def _listed(self) -> None:
        self.plot.show_rows(self.objects.model.rows)
        self.bar.keep.setEnabled(bool(self.objects.expression) and self.bar.can_keep)
        self.bar.export.setEnabled(self.content is not None)

    def _color_chosen(self, *_: Any) -> None:
        self.painter.color(self.follower.subject, self.content, self.bar.color_column)

    # ---------------------------------------------------------------------------------------------------- selection
    def _row_chosen(self, row: int) -> None:
        """Fly to the object of a row, and mark it."""
        content, subject = self.content, self.follower.subject
        if content is None or subject is None:
            return
        self.painter.fly(subject, content, row)
        label = int(content.labels[row])
        subject.layer.selected_label = label
        self._select_row(row)

    def _select_row(self, row: int) -> None:
        """Select one object, unless it is one of several that are selected."""
        if self.content is not None and (self.selected is None or not self.selected[row]):
            self.select_rows(np.arange(len(self.content)) == row)

    def select_label(self, label: int) -> None:
        """Select the row of a label that was clicked in the viewer."""
        content, subject = self.content, self.follower.subject
        row = content.row_of(label) if content is not None else None
        if content is None or subject is None or row is None:
            return
        if not self.objects.choose(row, fly=False):
            self.note.say(f"The filter hides object {label:,}. Clear the filter to see its row.")
            return
        self.note.say("")
        subject.layer.selected_label = label
        self._select_row(row)

    def select_rows(self, mask: np.ndarray) -> None:
        """Select the objects of several rows: a mask of the rows of the table."""
        content = self.content
        if content is None or len(mask) != len(content):
            return
        n = int(mask.sum())
        self.selected = mask if n else None
        self.objects.mark(self.selected)
        self.plot.show_selected(self.selected)
        self.painter.mark(self.follower.subject, content.labels[mask])
        was_only = self.bar.only.isChecked()
        self.bar.show_selected(n)
        if was_only:
            self._show_selected_only()

    def _show_selected_only(self) -> None:
        self.objects.show_only(self.selected if self.bar.only.isChecked() else None)

    # ------------------------------------------------------------------------------------------------------- filter
    def keep_listed(self) -> None:
        """Leave out the objects that the filter hides, when the labels are merged."""
        content = self.content
        if content is None:
            return
        ranges = ranges_of(self.objects.expression, content.names)
        if ranges is None:
            self.note.say(
                "Only ranges can be kept: columns compared with numbers, joined by and. For other conditions, export the rows.",
                problem=True,
            )
            return
        self.note.say("")
        self._want_ranges(ranges)
        self.objects.clear_filter()

    def _want_ranges(self, ranges: Any) -> None:
        subject = self.follower.subject
        if isinstance(subject, JobSubject):
            subject.control.ranges_wanted.emit(ranges)

    # ------------------------------------------------------------------------------------------------------- export
    def ask_export(self) -> None:
        """Ask for a file, and write the listed rows into it."""
        name, _ = QFileDialog.getSaveFileName(
            self, "Export the listed objects", "objects.csv", "CSV (*.csv);;Parquet (*.parquet)"
        )
        if name:
            self.export(Path(name))

    def export(self, file: Path) -> None:
        """Write the listed rows into a file, in a thread."""
        content, rows = self.content, self.objects.model.rows
        if content is None:
            return
        target = file if file.suffix in SUFFIXES else file.with_name(f"{file.name}.csv")
        in_thread(
            lambda: export_rows(content.frame, rows, target),
            lambda n: show_info(f"Exported {count_text(n, 'object')} to {target}."),
            lambda error: show_warning(f"The table could not be exported to {target}: {error}"),
            owner=self,
        )

    # ----------------------------------------------------------------------------------------------- open and closed
    def showEvent(self, event: Any) -> None:
        """Follow the viewer while the table is visible."""
        super().showEvent(event)
        self.follower.pause(False)
        self.clicks.turn(True)

    def hideEvent(self, event: Any) -> None:
        """Make no tables while the table is hidden."""
        super().hideEvent(event)
        self.follower.pause(True)
        self.clicks.turn(False)


class TableBar(QWidget):
    """Choices and buttons above the table."""

    def __init__(self) -> None:
        super().__init__()
        self.can_keep = False
        self.subject = _combo("Labels", "Labels layer whose objects are listed.", 12)
        self.color = _combo("Color by", "Color the objects in the viewer by a column.", 10)
        self.again = button("Measure again", "Read the labels again, for example after you painted.", lambda: None)
        self.only = button(
            "Selected only", "List only the objects that are selected in the table or in the plot.", lambda: None
        )
        self.only.setCheckable(True)
        self.keep = button("Keep only these", "Leave out all other objects when the labels are merged.", lambda: None)
        self.undo = button("Undo filter", "Bring back the objects that were left out last.", lambda: None)
        self.export = button("Export…", "Write the listed rows as CSV or Parquet.", lambda: None)
        holder = row_of(
            self.subject, self.again, QLabel("Color by"), self.color, None, self.only, self.keep, self.undo, self.export
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(holder)
        for part in (self.keep, self.export, self.only):
            part.setEnabled(False)
        self.show_columns([])

    @property
    def color_column(self) -> str:
        """The column that colors objects, or ""."""
        name = self.color.currentText()
        return "" if name == NO_COLOR else name

    def show_subjects(self, follower: TableFollower) -> None:
        """Offer labels layers."""
        self.subject.clear()
        self.subject.addItems([subject.name for subject in follower.subjects])
        if follower.subject is not None:
            self.subject.setCurrentIndex(follower.subjects.index(follower.subject))

    def adapt(self, subject: Any) -> None:
        """Show the buttons that make sense for a subject."""
        self.can_keep = isinstance(subject, JobSubject)
        self.keep.setVisible(self.can_keep)
        self.undo.setVisible(isinstance(subject, JobSubject) and subject.has_ranges)
        self.again.setVisible(subject is not None and not self.can_keep)

    def show_columns(self, names: list[str]) -> None:
        """Offer columns to color by."""
        before = self.color.currentText()
        self.color.blockSignals(True)
        self.color.clear()
        self.color.addItems([NO_COLOR, *names])
        self.color.setCurrentText(before if before in names else NO_COLOR)
        self.color.blockSignals(False)

    def show_selected(self, n: int) -> None:
        """Show how many objects are selected."""
        self.only.setText(f"Selected only ({n:,})" if n else "Selected only")
        self.only.setEnabled(n > 0 or self.only.isChecked())
        if not n:
            self.only.setChecked(False)


def _combo(name: str, tip: str, width: int) -> QComboBox:
    box = QComboBox()
    box.setAccessibleName(name)
    box.setToolTip(tip)
    box.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(width)
    box.setSizePolicy(QSizePolicy.Preferred, QSizePolicy.Fixed)
    return box
