"""Small pieces that the sections of the dock share: texts, sizes, problems said beside their field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QGroupBox, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QWidget

from napari_blockbuster.machine.units import bytes_text

__all__ = ["Note", "Section", "add_helper", "button", "bytes_text", "remove_layer", "row_of", "times"]


class Section(QGroupBox):
    """A titled group of rows."""

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(title, parent)
        self.form = QFormLayout(self)
        self.form.setFieldGrowthPolicy(QFormLayout.ExpandingFieldsGrow)
        # Long names beside long fields would make the dock wider than small screens have room for.
        self.form.setRowWrapPolicy(QFormLayout.WrapLongRows)

    def row(self, name: str, field: QWidget, tip: str = "") -> QWidget:
        """Add a named field."""
        label = QLabel(name)
        if tip:
            label.setToolTip(tip)
            field.setToolTip(tip)
        label.setBuddy(field)
        field.setAccessibleName(name)
        self.form.addRow(label, field)
        return field


class Note(QLabel):
    """A sentence under a field; hidden while there is nothing to say. `plain` is the sentence without its mark."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plain = ""
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextSelectableByMouse | Qt.LinksAccessibleByMouse)
        self.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Minimum)
        self.hide()

    def say(self, text: str, problem: bool = False) -> None:
        """Show a text, or nothing; a problem is marked in words and not by colour alone."""
        self.plain = text
        self.setText(f"⚠ {text}" if problem and text else text)
        dark = self.palette().color(self.backgroundRole()).lightness() < 128
        self.setStyleSheet(f"color: {'#e69f00' if dark else '#9a4b00'}; font-weight: bold;" if problem else "")
        self.setVisible(bool(text))


def row_of(*fields: QWidget | None, equal: bool = False) -> QWidget:
    """Fields side by side.

    Parameters
    ----------
    *fields : QWidget or None
        None is a gap that takes what width is left.
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


def add_helper(viewer: Any, layer: Any) -> None:
    """Add a layer that only helps to see; what the user works on stays selected."""
    selected = set(viewer.layers.selection)
    viewer.add_layer(layer)
    viewer.layers.selection = selected


def remove_layer(viewer: Any, layer: Any) -> None:
    """Take a layer out of a viewer, if it is (still) there. Labels are not removed but put away (`label_layers`)."""
    if layer is not None and layer in viewer.layers:
        viewer.layers.remove(layer)


def button(text: str, tip: str, on_click: Callable[[], object]) -> QPushButton:
    """A push button that says what it does."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.clicked.connect(lambda *_: on_click())
    return made


def times(values: Sequence[float]) -> str:
    """Extents: "128 × 256 × 256"."""
    return " × ".join(f"{v:g}" for v in values)
