"""Which labels are one object across the seams, and writing them."""

from __future__ import annotations

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QSlider, QSpinBox, QWidget

from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.merge.rules import DEFAULT_MIN_IOU, RULES
from napari_blockbuster.output.result import StagedMerge
from napari_blockbuster.widgets.controls import Note, Section, button
from napari_blockbuster.widgets.dock.plan import MergeChoice

__all__ = ["MergeSection"]

TIPS = {
    "overlap": "Agreement where both tiles saw the same place: for cells and nuclei, with a halo.",
    "face": "Agreement of the cross-sections at the seam: for runs without a halo.",
    "touch": "Any contact: for masks and structures larger than the halo. It fuses cells that lie side by side.",
    "none": "Nothing is joined: objects are cut along the seams.",
}


class MergeSection(Section):
    """Rule and threshold. `changed` comes once they have come to rest."""

    changed = Signal()
    write_wanted = Signal()
    seams_wanted = Signal(bool)
    step_wanted = Signal(int)
    """Next (1) or previous (-1) doubtful pair."""
    inspect_wanted = Signal()
    delete_wanted = Signal()

    def __init__(self) -> None:
        super().__init__("6  Merge")
        self.rule = QComboBox()
        self.rule.addItems(RULES)
        for i, rule in enumerate(RULES):
            self.rule.setItemData(i, TIPS[rule], Qt.ToolTipRole)
        self.row("rule", self.rule, "Which labels on both sides of a seam are one object.")
        self.about = Note()
        self.form.addRow(self.about)
        self._threshold()
        self.connectivity = QComboBox()
        self.connectivity.addItems(["1: faces", "2: and edges", "3: and corners"])
        self.row("connectivity", self.connectivity, "What counts as contact.")
        self.smallest = QSpinBox()
        self.smallest.setRange(0, 2**31 - 1)
        self.smallest.setSpecialValueText("any size")
        self.smallest.setSuffix(" voxels")
        self.smallest.setKeyboardTracking(False)
        self.row("smallest", self.smallest, "Leave out merged objects of fewer voxels, counted across tiles.")
        self.drop_border = QCheckBox("leave out objects at the image's edge")
        self.drop_border.setToolTip("They are cut there, and their size says little.")
        self.form.addRow(self.drop_border)
        self.fill_holes = QCheckBox("fill holes in objects")
        self.fill_holes.setToolTip(
            "Background with a single object all around it becomes part of the object, also across tiles. Sizes count with "
            "holes. The first time, all tiles are read once."
        )
        self.form.addRow(self.fill_holes)
        self.counts = Note()
        self.form.addRow(self.counts)
        self._seams()
        self.write = button(
            "Write merged labels",
            "Write an OME-Zarr in the background and show it in place of the live labels.",
            self.write_wanted.emit,
        )
        self.form.addRow(self.write)
        self.delete = button(
            "Delete the staged tiles…", "They are only needed to merge again. Asks first.", self.delete_wanted.emit
        )
        self.form.addRow(self.delete)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(15)
        self._rest.timeout.connect(self.changed.emit)
        self.rule.currentTextChanged.connect(self._rule_changed)
        self.smallest.valueChanged.connect(lambda *_: self._rest.start())
        self.drop_border.toggled.connect(lambda *_: self._rest.start())
        self.fill_holes.toggled.connect(lambda *_: self._rest.start())
        self.connectivity.currentIndexChanged.connect(lambda *_: self._rest.start())
        self._rule_changed(self.rule.currentText())
        self.show_state("idle", None)

    def _threshold(self) -> None:
        holder = QWidget()
        row = QHBoxLayout(holder)
        row.setContentsMargins(0, 0, 0, 0)
        self.slider = QSlider(Qt.Horizontal)
        self.slider.setRange(0, 100)
        self.shown = QLabel()
        self.shown.setMinimumWidth(36)
        row.addWidget(self.slider, 1)
        row.addWidget(self.shown)
        tip = "How well two labels must agree (IoU, 0 to 1) to be one object. Lower joins more."
        self.row("threshold", holder, tip)
        self.slider.setToolTip(tip)
        self.slider.setAccessibleName("threshold")
        self.slider.valueChanged.connect(self._slid)
        self._threshold_row = holder

    def _seams(self) -> None:
        self.seams = QCheckBox("show seams")
        self.seams.setToolTip("Rings on the pairs at the seams: green joined, orange apart; the doubtful ones first.")
        self.seams.toggled.connect(self.seams_wanted.emit)
        holder = QWidget()
        row = QHBoxLayout(holder)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.seams)
        row.addStretch()
        row.addWidget(button("◀", "Previous doubtful pair (Shift+N)", lambda: self.step_wanted.emit(-1)))
        row.addWidget(button("▶", "Next doubtful pair (N)", lambda: self.step_wanted.emit(1)))
        self.pair = Note()
        self.form.addRow(holder)
        self.form.addRow(self.pair)
        self.inspect = button(
            "Inspect merges…",
            "List every pair at the seams: join, cut, undo; alarms; was the halo large enough?",
            self.inspect_wanted.emit,
        )
        self.form.addRow(self.inspect)

    # ------------------------------------------------------------------------------------------------------- values
    def choice(self) -> MergeChoice:
        """Rule, threshold and connectivity."""
        rule = self.rule.currentText()
        value = self.slider.value() / 100
        default = DEFAULT_MIN_IOU.get(rule)
        return MergeChoice(
            rule,
            None if value == default or default is None else value,
            self.connectivity.currentIndex() + 1,
            ObjectFilter(
                self.smallest.value() or None,
                drop_border=self.drop_border.isChecked(),
                fill_holes=self.fill_holes.isChecked(),
            ),
        )

    def _rule_changed(self, rule: str) -> None:
        self.about.say(TIPS[rule])
        self.form.setRowVisible(self._threshold_row, rule in DEFAULT_MIN_IOU)
        self.form.setRowVisible(self.connectivity, rule == "touch")
        if rule in DEFAULT_MIN_IOU:
            self.slider.setValue(round(DEFAULT_MIN_IOU[rule] * 100))
            self._slid(self.slider.value())
        self._rest.start()

    def _slid(self, value: int) -> None:
        self.shown.setText(f"{value / 100:.2f}")
        self._rest.start()

    # ------------------------------------------------------------------------------------------------------ showing
    def show_state(self, state: str, merged: StagedMerge | None) -> None:
        """Enable what can be done now."""
        self.write.setEnabled(merged is not None and state in ("paused", "staged", "written"))
        self.delete.setVisible(state == "written")
        self.seams.setEnabled(merged is not None)
        self.inspect.setEnabled(merged is not None)
        if merged is None:
            self.counts.say(
                "The merge follows by itself when all tiles are staged; or pause, and merge what is there."
                if state in ("staging", "paused")
                else ""
            )
            return
        doubtful = (
            f"; {len(merged.seams):,} pairs at seams, {int(merged.joined.sum()):,} joined" if len(merged.seams) else ""
        )
        left_out = f", {merged.n_removed:,} left out" if merged.n_removed else ""
        filled = f", {merged.filled.n_holes:,} holes filled" if merged.filled is not None else ""
        of = f"from {merged.n_labels:,} labels{left_out}{filled}{doubtful}"
        self.counts.say(f"<b>{merged.n_objects:,} objects</b> {of}.")
