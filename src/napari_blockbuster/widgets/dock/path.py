"""Path through the dock: steps below each other, of which one is open. A folded step is a line with its values."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget
from superqt import QElidingLabel

from napari_blockbuster.widgets.controls import Section

__all__ = ["Path", "StepHeader"]

OPEN, FOLDED = "▾", "▸"


class StepHeader(QPushButton):
    """Line of a step: number, title and values. A click opens or folds the step."""

    def __init__(self, section: Section) -> None:
        super().__init__()
        self._section = section
        self.number = 0
        self.setCheckable(True)
        self.setObjectName(f"step-{section.title.lower()}")
        self.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Fixed)
        # A step that is open must not look like a button that is pressed.
        self.setStyleSheet("QPushButton { text-align: left; } QPushButton QLabel { background: transparent; }")
        self._mark, self._title, self._values = QLabel(), QLabel(section.title), QElidingLabel()
        self._title.setStyleSheet("font-weight: bold;")
        self._values.setMinimumWidth(20)
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 2, 6, 2)
        row.setSpacing(6)
        for label in (self._mark, self._title):
            row.addWidget(label)
        row.addWidget(self._values, 1)
        for label in (self._mark, self._title, self._values):
            label.setAttribute(Qt.WA_TransparentForMouseEvents)
        section.briefed.connect(self.update_line)
        self.toggled.connect(lambda *_: self.update_line())

    def update_line(self) -> None:
        """Show number, title, values and whether the step is open."""
        section, is_open = self._section, self.isChecked()
        self._mark.setText(f"{OPEN if is_open else FOLDED} {self.number}")
        problem = section.has_problem and bool(section.brief)
        # An open step shows its values in its fields.
        self._values.setText("" if is_open else f"{'⚠ ' if problem else ''}{section.brief}")
        self.setToolTip(section.brief)
        self.setAccessibleName(f"{self.number} {section.title}")
        self.setAccessibleDescription(section.brief)

    @property
    def title_width(self) -> int:
        """Pixels that the title takes."""
        self._title.ensurePolished()
        return self._title.sizeHint().width()

    def align(self, width: int) -> None:
        """Give the title a width, so that the values of all steps begin at the same place."""
        self._title.setMinimumWidth(width)

    def sizeHint(self) -> QSize:
        """Return a height that suits the font. The width follows the dock."""
        return QSize(120, self.fontMetrics().height() + 14)

    def minimumSizeHint(self) -> QSize:
        """Return the same as `sizeHint`."""
        return self.sizeHint()


class Path(QWidget):
    """Steps of the dock. At most one is open.

    Attributes
    ----------
    sections : list of Section
    """

    opened = Signal(object)
    """The `Section` that was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: list[Section] = []
        self._headers: list[StepHeader] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(4, 4, 4, 4)
        self._column.setSpacing(3)
        # Lists in a step would take the free space otherwise.
        self._column.addStretch(1)

    def add(self, section: Section, after: Section | None = None) -> None:
        """Add a step, folded.

        Parameters
        ----------
        section : Section
        after : Section, optional
            The step before it. None: add it at the end.
        """
        place = len(self.sections) if after is None else self.sections.index(after) + 1
        header = StepHeader(section)
        section.opener = header
        section.hide()
        self.sections.insert(place, section)
        self._headers.insert(place, header)
        self._column.insertWidget(2 * place, header)
        self._column.insertWidget(2 * place + 1, section)
        header.toggled.connect(lambda on: self._turn(section, on))
        for number, each in enumerate(self._headers, 1):
            each.number = number
            each.update_line()
        self._align()

    def showEvent(self, event: Any) -> None:
        """Align the steps. Only now their fonts are known."""
        super().showEvent(event)
        self._align()

    def _align(self) -> None:
        width = max(header.title_width for header in self._headers)
        for header in self._headers:
            header.align(width)

    @property
    def current(self) -> Section | None:
        """The open step."""
        return next((s for s, header in zip(self.sections, self._headers, strict=True) if header.isChecked()), None)

    def open(self, section: Section) -> None:
        """Open a step, and fold the others."""
        assert section.opener is not None
        section.opener.setChecked(True)

    def _turn(self, section: Section, on: bool) -> None:
        if on:
            for other in self._headers:
                if other is not section.opener:
                    other.setChecked(False)
        section.setVisible(on)
        if on:
            self.opened.emit(section)
