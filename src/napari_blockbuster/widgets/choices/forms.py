"""Forms for the settings of a model, and for one number along each axis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal, get_origin

from magicgui.widgets import LineEdit, Widget, create_widget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QHBoxLayout, QSizePolicy, QSpinBox, QVBoxLayout, QWidget

from napari_blockbuster.models import Model, get_model, model_class
from napari_blockbuster.widgets.controls import NARROW, Fold, add_row, row_of
from napari_blockbuster.widgets.texts import voxels_name

from .code_button import CodeButton
from .consent import code_of
from .function_fields import function_button, options_of

__all__ = ["AxesForm", "ModelForm"]


class ModelForm(QWidget):
    """One row for each setting of a model. Advanced settings are hidden at first."""

    changed = Signal()

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.name = name
        self.fields: dict[str, Widget] = {}
        self._defaults: dict[str, Any] = {}
        self._lengths: list[Widget] = []
        plain, self._advanced = QFormLayout(), QWidget()
        folded = QFormLayout(self._advanced)
        for layout in (plain, folded):
            layout.setContentsMargins(0, 0, 0, 0)
            layout.setFieldGrowthPolicy(QFormLayout.AllNonFixedFieldsGrow)
        for key, info in model_class(name).model_fields.items():
            extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
            if extra.get("derived"):
                continue
            self._add(folded if extra.get("advanced") else plain, key, info, str(extra.get("unit", "") or ""))
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.addLayout(plain)
        if folded.rowCount():
            box.addWidget(Fold("More settings", self._advanced))
            box.addWidget(self._advanced)
        self.code = CodeButton(self)
        self.code.pressed_for.connect(self.changed)
        box.addWidget(self.code)

    def _add(self, layout: QFormLayout, key: str, info: Any, unit: str) -> None:
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        field = _editor(key, info, default, unit)
        field.changed.connect(lambda *_: self.changed.emit())
        self.fields[key], self._defaults[key] = field, default
        if unit == "px" and hasattr(field.native, "setSuffix"):
            self._lengths.append(field)
        shown = (
            row_of(field.native, function_button(field)) if (self.name, key) == ("function", "source") else field.native
        )
        field.native.setToolTip(field.tooltip)
        add_row(layout, key.replace("_", " ").capitalize(), shown, field.tooltip)
        field.native.setAccessibleName(key.replace("_", " ").capitalize())

    def default(self, key: str) -> Any:
        """Return the default of a setting."""
        return self._defaults[key]

    def show_axes(self, n_spatial_axes: int) -> None:
        """Name the unit of lengths: pixels in 2D, voxels in 3D."""
        for field in self._lengths:
            field.native.setSuffix(f" {voxels_name(n_spatial_axes)}s")

    def values(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults."""
        found = {key: _value(key, field, self._defaults[key]) for key, field in self.fields.items()}
        return {key: value for key, value in found.items() if value != self._defaults[key]}

    def set_values(self, values: dict[str, Any]) -> None:
        """Fill in the form. Unknown settings are ignored."""
        for key, value in values.items():
            if key in self.fields:
                _set(self.fields[key], value)

    def model(self) -> Model:
        """Return the model with these settings. No code of the user is imported.

        Raises
        ------
        ValueError
            If a setting is invalid (the message gives its value and range), or if code needs permission.
        """
        values = self.values()
        code = code_of({"model": self.name, **values})
        if code is not None and code.kind == "module":
            # Check the options now. The digest is computed when the button is pressed.
            get_model(self.name, **values, kind="module", sha256="0" * 64)
            return self.code.loaded(code, values.get("options", {}))
        self.code.refuse_unallowed(code)
        return get_model(self.name, **values)


class AxesForm(QWidget):
    """One whole number for each axis."""

    changed = Signal()

    def __init__(self, name: str, tip: str, least: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name, self._tip, self._least = name, tip, least
        self.spins: dict[str, QSpinBox] = {}
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(3)

    def set_axes(self, axes: Sequence[str]) -> None:
        """Make a field for each axis, if the axes changed."""
        if list(self.spins) == list(axes):
            return
        while self._row.count():
            item = self._row.takeAt(0)
            if item.widget() is not None:
                item.widget().deleteLater()
        self.spins = {}
        for axis in axes:
            spin = QSpinBox()
            spin.setRange(self._least, 10**7)
            spin.setSingleStep(16)
            # Buttons would hide the digits in a narrow dock. Arrow keys and the wheel work.
            spin.setButtonSymbols(QSpinBox.NoButtons)
            spin.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Fixed)
            spin.setStyleSheet(NARROW)
            spin.setPrefix(f"{axis} ")
            spin.setObjectName(f"{self._name}-{axis}")
            spin.setAccessibleName(f"{self._name} along {axis}")
            spin.setToolTip(f"{self._tip} Along {axis}, in {voxels_name(len(axes))}s.")
            # Ignore a value while it is being typed.
            spin.setKeyboardTracking(False)
            spin.valueChanged.connect(lambda *_: self.changed.emit())
            self.spins[axis] = spin
            self._row.addWidget(spin, 1)

    @property
    def values(self) -> tuple[int, ...]:
        return tuple(spin.value() for spin in self.spins.values())

    def set_values(self, values: Sequence[int]) -> None:
        """Set all numbers. Emits `changed` once, if they changed."""
        if tuple(values) == self.values:
            return
        for spin, value in zip(self.spins.values(), values, strict=True):
            spin.blockSignals(True)
            spin.setValue(int(value))
            spin.blockSignals(False)
        self.changed.emit()


# ------------------------------------------------------------------------------------------------------------- editors
def _editor(key: str, info: Any, default: Any, unit: str) -> Widget:
    low, high = _limits(info)
    tip = _tip(info, unit, low, high)
    if _is_plain(info.annotation) and default is not None:
        options: dict[str, Any] = {}
        if info.annotation in (int, float):
            # Without limits, the widget would guess them from the value.
            options = {"min": low if low is not None else -(10**6), "max": high if high is not None else 10**6}
        if info.annotation is float:
            options["step"] = 0.05 if abs(default) < 1 else 1.0
        field = create_widget(value=default, annotation=info.annotation, name=key, options=options)
        if unit and hasattr(field.native, "setSuffix"):
            field.native.setSuffix(f" {unit}")
        if hasattr(field.native, "setKeyboardTracking"):
            field.native.setKeyboardTracking(False)
    else:
        # An empty field means automatic. Lists are typed with commas.
        field = LineEdit(value="" if _is_empty(default) else _text(default), name=key)
        field.native.setPlaceholderText(_placeholder(key, info.is_required(), default))
    field.tooltip = tip
    return field


def _placeholder(key: str, required: bool, default: Any) -> str:
    if key == "source":
        return "path/to/file.py:function"
    if isinstance(default, dict):
        return "name=value, name=value"
    return "Required" if required else "Automatic" if default is None else ""


def _is_plain(annotation: Any) -> bool:
    return annotation in (int, float, bool) or get_origin(annotation) is Literal


def _limits(info: Any) -> tuple[float | None, float | None]:
    low = high = None
    for rule in info.metadata:
        low = next((getattr(rule, a) for a in ("ge", "gt") if getattr(rule, a, None) is not None), low)
        high = next((getattr(rule, a) for a in ("le", "lt") if getattr(rule, a, None) is not None), high)
    return low, high


def _tip(info: Any, unit: str, low: float | None, high: float | None) -> str:
    parts = [info.description or ""]
    if unit:
        parts.append("In pixels, in 3D in voxels." if unit == "px" else f"In {unit}.")
    if low is not None and high is not None:
        parts.append(f"From {low:g} to {high:g}.")
    elif low is not None or high is not None:
        parts.append(f"At least {low:g}." if low is not None else f"At most {high:g}.")
    return " ".join(parts)


def _is_empty(default: Any) -> bool:
    """Return whether an empty field means this default."""
    return default in (None, "", {})


def _value(key: str, field: Widget, default: Any) -> Any:
    if not isinstance(field, LineEdit):
        return field.value
    text = field.value.strip()
    if not text:
        return default if _is_empty(default) else None
    if isinstance(default, dict):
        return options_of(key, text)
    try:
        return json.loads(text if text[0] in '[{"' or "," not in text else f"[{text}]")
    except ValueError:
        return text


def _set(field: Widget, value: Any) -> None:
    if isinstance(value, float) and hasattr(field.native, "setDecimals"):
        # Show every digit, so that opening a job does not round its settings.
        digits = -int(Decimal(repr(value)).normalize().as_tuple().exponent)
        field.native.setDecimals(max(field.native.decimals(), min(digits, 12)))
    field.value = ("" if value is None else _text(value)) if isinstance(field, LineEdit) else value


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={json.dumps(each)}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
