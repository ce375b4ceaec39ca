"""Controls that the sections of the dock share, and the text of sizes."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QGroupBox, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QWidget

from napari_blockbuster.machine.units import bytes_text
from napari_blockbuster.widgets.texts import times

__all__ = ["Note", "Section", "add_row", "button", "bytes_text", "row_of", "times"]


class Section(QGroupBox):
    """Titled group of rows."""

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(title, parent)
        self.form = QFormLayout(self)
        self.form.setFieldGrowthPolicy(QFormLayout.AllNonFixedFieldsGrow)
        # Keep the dock narrow enough for small screens.
        self.form.setRowWrapPolicy(QFormLayout.WrapLongRows)

    def row(self, name: str, field: QWidget, tip: str = "") -> QWidget:
        """Add a field with a label."""
        add_row(self.form, name, field, tip)
        return field


class Note(QLabel):
    """Hint below a field, hidden when empty. `plain` is its text without the warning sign."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plain = ""
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextSelectableByMouse | Qt.LinksAccessibleByMouse)
        self.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Minimum)
        self.hide()

    def say(self, text: str, problem: bool = False) -> None:
        """Set the text. A problem gets a warning sign as well as a color."""
        self.plain = text
        self.setText(f"⚠ {text}" if problem and text else text)
        dark = self.palette().color(self.backgroundRole()).lightness() < 128
        self.setStyleSheet(f"color: {'#e69f00' if dark else '#9a4b00'}; font-weight: bold;" if problem else "")
        self.setVisible(bool(text))


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
