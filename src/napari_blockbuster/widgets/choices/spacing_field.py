"""Field for the size of a voxel along each spatial axis."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QSizePolicy, QWidget

from napari_blockbuster.widgets.controls import NARROW
from napari_blockbuster.widgets.texts import voxels_name

__all__ = ["SpacingField"]

UNKNOWN = 0.0
"""Value of a field that says nothing."""


class _SizeSpin(QDoubleSpinBox):
    def textFromValue(self, value: float) -> str:
        return f"{value:.6g}"


class SpacingField(QWidget):
    """One size for each axis, in micrometers. Sizes of the image are shown until the user types others.

    Attributes
    ----------
    typed : tuple of float or None, or None
        What the user typed, None for an axis that is left to the image; None if nothing was typed.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.typed: tuple[float | None, ...] | None = None
        self.spins: dict[str, QDoubleSpinBox] = {}
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.setSpacing(3)
        self._row.addWidget(QLabel("µm"))

    def set_axes(self, axes: Sequence[str]) -> None:
        """Make a field for each axis, if the axes changed. Typed sizes are forgotten if their number changed."""
        if list(self.spins) == list(axes):
            return
        if len(self.typed or ()) != len(axes):
            self.typed = None
        for spin in self.spins.values():
            self._row.removeWidget(spin)
            spin.deleteLater()
        self.spins = {}
        name = voxels_name(len(axes))
        for place, axis in enumerate(axes):
            spin = _SizeSpin()
            spin.setRange(UNKNOWN, 1e7)
            spin.setDecimals(6)
            spin.setButtonSymbols(QDoubleSpinBox.NoButtons)
            spin.setPrefix(f"{axis} ")
            spin.setSpecialValueText(f"{axis} ?")
            # The range of the sizes would make the field wider than the dock.
            spin.setSizePolicy(QSizePolicy.Ignored, QSizePolicy.Fixed)
            spin.setStyleSheet(NARROW)
            spin.setAccessibleName(f"{name.capitalize()} size along {axis}")
            spin.setToolTip(f"Size of a {name} along {axis} at full resolution, in µm. 0: as the image says.")
            spin.setKeyboardTracking(False)
            spin.valueChanged.connect(lambda value, axis=axis: self._typed_one(axis, value))
            self.spins[axis] = spin
            self._row.insertWidget(place, spin, 1)

    def forget(self) -> None:
        """Forget what was typed, because the image is another."""
        self.typed = None

    def show_sizes(self, sizes: Sequence[float | None]) -> None:
        """Show the sizes that count, None where they are unknown."""
        for spin, size in zip(self.spins.values(), sizes, strict=True):
            spin.blockSignals(True)
            spin.setValue(size or UNKNOWN)
            spin.blockSignals(False)

    def set_typed(self, sizes: Sequence[float | None] | None) -> None:
        """Set the sizes as if they were typed. None leaves all to the image."""
        now = None if sizes is None else tuple(sizes)
        if now != self.typed:
            self.typed = now
            self.changed.emit()

    def _typed_one(self, axis: str, value: float) -> None:
        known = dict(zip(self.spins, self.typed or (None,) * len(self.spins), strict=True))
        known[axis] = value if value > UNKNOWN else None
        typed = tuple(known.values())
        self.typed = None if set(typed) == {None} else typed
        self.changed.emit()
