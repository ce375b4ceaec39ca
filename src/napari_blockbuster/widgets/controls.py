"""Controls that the sections of the dock share, and the text of sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractButton,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QWidget,
)

from napari_blockbuster.machine.units import bytes_text

from .texts import times

__all__ = ["NARROW", "Fold", "Note", "Section", "add_row", "button", "bytes_text", "row_of", "times", "unfold"]


NARROW = "min-width: 40px; padding: 1px 4px;"
"""Style of number fields that stand side by side, one for each axis: napari's own are too wide for three of them."""


class Section(QWidget):
    """Rows of one step of the dock.

    Attributes
    ----------
    title : str
    form : QFormLayout
    brief, has_problem : str, bool
        Values of the step on one line, shown while it is folded, and whether they name a problem.
    opener : QAbstractButton or None
        Button that opens the step, set by the dock.
    """

    briefed = Signal()
    """`brief` changed."""

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.title, self.brief, self.has_problem = title, "", False
        self.opener: QAbstractButton | None = None
        self.form = QFormLayout(self)
        self.form.setContentsMargins(6, 4, 2, 8)
        self.form.setFieldGrowthPolicy(QFormLayout.AllNonFixedFieldsGrow)

    def row(self, name: str, field: QWidget, tip: str = "") -> QWidget:
        """Add a field with a label."""
        add_row(self.form, name, field, tip)
        return field

    def say_brief(self, text: str, problem: bool = False) -> None:
        """Set the line that describes the step while it is folded."""
        if (text, problem) != (self.brief, self.has_problem):
            self.brief, self.has_problem = text, problem
            self.briefed.emit()


class Fold(QToolButton):
    """Button that shows and hides further settings. Its state is kept while the dock is open."""

    def __init__(self, title: str, content: QWidget) -> None:
        super().__init__()
        self.title = title
        self.setText(title)
        self.setCheckable(True)
        self.setArrowType(Qt.RightArrow)
        self.setToolButtonStyle(Qt.ToolButtonTextBesideIcon)
        self.setAutoRaise(True)
        self.setFocusPolicy(Qt.StrongFocus)
        self.toggled.connect(content.setVisible)
        self.toggled.connect(lambda on: self.setArrowType(Qt.DownArrow if on else Qt.RightArrow))
        content.opener = self  # type: ignore[attr-defined]
        content.hide()

    def say(self, text: str, problem: bool = False) -> None:
        """Show values of the folded settings after the title."""
        shown = f"{self.title}: {text}" if text else self.title
        self.setText(f"⚠ {shown}" if problem else shown)


class Note(QLabel):
    """Hint below a field, hidden when empty. `plain` is its text without the warning sign."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plain, self.is_problem = "", False
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextSelectableByMouse | Qt.LinksAccessibleByMouse)
        self.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Minimum)
        self.hide()

    def say(self, text: str, problem: bool = False) -> None:
        """Set the text. A problem gets a warning sign as well as a color."""
        self.plain, self.is_problem = text, problem and bool(text)
        self.setText(f"⚠ {text}" if problem and text else text)
        dark = self.palette().color(self.backgroundRole()).lightness() < 128
        self.setStyleSheet(f"color: {'#e69f00' if dark else '#9a4b00'}; font-weight: bold;" if problem else "")
        self.setVisible(bool(text))
        self._fit()

    def resizeEvent(self, event: Any) -> None:
        """Take the height that the text needs at this width. Nested form layouts give less."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        needed = self.heightForWidth(self.width()) if self.text() else 0
        if needed >= 0 and needed != self.minimumHeight():
            self.setMinimumHeight(needed)


def add_row(form: QFormLayout, name: str, field: QWidget, tip: str = "") -> None:
    """Add a field with a label to a form. Labels are equally wide, so that the fields of all sections align."""
    label = QLabel(name)
    label.setMinimumWidth(label.fontMetrics().horizontalAdvance("Connectivity"))
    label.setBuddy(field)
    if tip:
        label.setToolTip(tip)
        field.setToolTip(tip)
    field.setAccessibleName(name)
    form.addRow(label, field)


def row_of(*fields: QWidget | None, equal: bool = False) -> QWidget:
    """Return a widget with fields side by side.

    Parameters
    ----------
    *fields : QWidget or None
        None is a gap that takes the remaining width.
    equal : bool, default False
        Make all fields equally wide.
    """
    holder = QWidget()
    row = QHBoxLayout(holder)
    row.setContentsMargins(0, 0, 0, 0)
    for field in fields:
        if field is None:
            row.addStretch()
        else:
            row.addWidget(field, int(equal))
    return holder


def button(text: str, tip: str, on_click: Callable[[], object]) -> QPushButton:
    """Return a push button."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.clicked.connect(lambda *_: on_click())
    return made


def unfold(widget: QWidget) -> None:
    """Open the step and the folds that hide a widget."""
    parent: QWidget | None = widget
    while parent is not None:
        opener = getattr(parent, "opener", None)
        if isinstance(opener, QAbstractButton) and not opener.isChecked():
            opener.setChecked(True)
        parent = parent.parentWidget()
