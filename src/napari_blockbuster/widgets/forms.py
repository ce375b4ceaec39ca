"""A form for a model, made from its own settings."""

from __future__ import annotations

import json
import types
from typing import Any, Literal, Union, get_args, get_origin

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ..models import Model, get_model, model_class

__all__ = ["ModelForm"]


class ModelForm(QWidget):
    """One row for each setting: name, unit, range and help come from the model; advanced ones are folded away."""

    changed = Signal()

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name = name
        self._fields: dict[str, QWidget] = {}
        self._defaults: dict[str, Any] = {}
        plain, self._advanced = QFormLayout(), QWidget()
        folded = QFormLayout(self._advanced)
        for layout in (plain, folded):
            layout.setContentsMargins(0, 0, 0, 0)
            layout.setFieldGrowthPolicy(QFormLayout.ExpandingFieldsGrow)
        for key, info in model_class(name).model_fields.items():
            extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
            self._add(folded if extra.get("advanced") else plain, key, info, str(extra.get("unit", "")))
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.addLayout(plain)
        if folded.rowCount():
            self._fold(box)

    def _fold(self, box: QVBoxLayout) -> None:
        more = QToolButton()
        more.setText("More settings")
        more.setCheckable(True)
        more.setArrowType(Qt.RightArrow)
        more.setToolButtonStyle(Qt.ToolButtonTextBesideIcon)
        more.setAutoRaise(True)
        more.toggled.connect(self._advanced.setVisible)
        more.toggled.connect(lambda on: more.setArrowType(Qt.DownArrow if on else Qt.RightArrow))
        self._advanced.hide()
        box.addWidget(more)
        box.addWidget(self._advanced)

    def _add(self, layout: QFormLayout, key: str, info: Any, unit: str) -> None:
        default = info.get_default(call_default_factory=True)
        field = _editor(info.annotation, default, _limits(info))
        field.setObjectName(f"setting-{key}")
        field.setToolTip(_tip(info, unit))
        if unit and hasattr(field, "setSuffix"):
            field.setSuffix(f" {unit}")
        _signal(field).connect(lambda *_: self.changed.emit())
        self._fields[key], self._defaults[key] = field, default
        label = QLabel(key.replace("_", " "))
        label.setToolTip(field.toolTip())
        layout.addRow(label, field)

    # ---------------------------------------------------------------- values
    def values(self) -> dict[str, Any]:
        """What differs from the defaults.

        Raises
        ------
        ValueError
            If a text cannot be read as a value.
        """
        found = {key: _value(key, field) for key, field in self._fields.items()}
        return {key: value for key, value in found.items() if value != self._defaults[key]}

    def set_values(self, values: dict[str, Any]) -> None:
        """Fill the form."""
        for key, value in values.items():
            if key in self._fields:
                _set(self._fields[key], value)

    def model(self) -> Model:
        """The model with these settings.

        Raises
        ------
        ValueError
            In one sentence, naming the setting, its value and its range.
        """
        return get_model(self.name, **self.values())


# ------------------------------------------------------------------------------------------------------------- editors
def _editor(annotation: Any, default: Any, limits: tuple[float | None, float | None]) -> QWidget:
    low, high = limits
    if get_origin(annotation) is Literal:
        combo = QComboBox()
        combo.addItems([str(choice) for choice in get_args(annotation)])
        combo.setCurrentText(str(default))
        return combo
    if annotation is bool:
        check = QCheckBox()
        check.setChecked(bool(default))
        return check
    if annotation in (int, float) and default is not None:
        spin: Any = QSpinBox() if annotation is int else QDoubleSpinBox()
        spin.setRange(low if low is not None else -(10**6), high if high is not None else 10**6)
        if annotation is float:
            spin.setDecimals(3 if abs(default) < 1 else 1)
            spin.setSingleStep(0.05 if abs(default) < 1 else 1)
        spin.setValue(default)
        return spin
    line = QLineEdit("" if default in (None, "") else _text(default))
    line.setPlaceholderText("automatic" if _is_optional(annotation) else "")
    return line


def _is_optional(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation)


def _limits(info: Any) -> tuple[float | None, float | None]:
    low = high = None
    for rule in info.metadata:
        low = next((getattr(rule, a) for a in ("ge", "gt") if getattr(rule, a, None) is not None), low)
        high = next((getattr(rule, a) for a in ("le", "lt") if getattr(rule, a, None) is not None), high)
    return low, high


def _tip(info: Any, unit: str) -> str:
    low, high = _limits(info)
    span = f" Range: {'' if low is None else low} to {'' if high is None else high}." if (low, high) != (None, None) else ""
    return f"{info.description or ''}{f' In {unit}.' if unit else ''}{span}"


def _signal(field: QWidget) -> Any:
    if isinstance(field, QComboBox):
        return field.currentTextChanged
    if isinstance(field, QCheckBox):
        return field.toggled
    return field.valueChanged if isinstance(field, QSpinBox | QDoubleSpinBox) else field.editingFinished


def _value(key: str, field: QWidget) -> Any:
    if isinstance(field, QComboBox):
        return field.currentText()
    if isinstance(field, QCheckBox):
        return field.isChecked()
    if isinstance(field, QSpinBox | QDoubleSpinBox):
        return field.value()
    assert isinstance(field, QLineEdit)
    text = field.text().strip()
    if not text:
        return None
    try:
        return json.loads(text if text[0] in "[{\"" or "," not in text else f"[{text}]")
    except ValueError:
        return text


def _set(field: QWidget, value: Any) -> None:
    if isinstance(field, QComboBox):
        field.setCurrentText(str(value))
    elif isinstance(field, QCheckBox):
        field.setChecked(bool(value))
    elif isinstance(field, QSpinBox | QDoubleSpinBox):
        field.setValue(value)
    elif isinstance(field, QLineEdit):
        field.setText("" if value is None else _text(value))


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
