"""Result step of the dock: rule, object filter, seams, and writing."""

from __future__ import annotations

from qtpy.QtCore import QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QLabel, QSlider, QSpinBox, QWidget

from napari_blockbuster.machine.units import count_text
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.merge.rules import DEFAULT_MIN_IOU, RULES
from napari_blockbuster.output.result import StagedMerge
from napari_blockbuster.widgets.choices.plan import MergeChoice
from napari_blockbuster.widgets.controls import Note, Section, button, row_of
from napari_blockbuster.widgets.texts import voxels_name

from .column_ranges import ColumnRanges

__all__ = ["MergeSection"]

TIPS = {
    "overlap": "Compare labels where the tiles overlap. For cells and nuclei, with a halo.",
    "face": "Compare cross-sections of labels at the seam. For runs without a halo.",
    "touch": "Join labels that touch. For masks, and structures larger than the halo. It fuses cells that touch.",
    "none": "Join nothing. Objects are cut along the seams.",
}


class MergeSection(Section):
    """Rule and object filter. `changed` is emitted once the user stops changing them."""

    changed = Signal()
    write_wanted = Signal()
    seams_wanted = Signal(bool)
    step_wanted = Signal(int)
    """Next (1) or previous (-1) doubtful pair."""
    inspect_wanted = Signal()
    table_wanted = Signal()
    export_wanted = Signal()
    delete_wanted = Signal()

    def __init__(self) -> None:
        super().__init__("Result")
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(15)
        self._rest.timeout.connect(self.changed.emit)
        self.counts = Note()
        self.form.addRow(self.counts)
        # What a user does with a result comes first: in a small window, the settings are below the edge.
        self._add_write()
        self._add_checks()
        self.rule = RuleFields(self)
        self.rule.changed.connect(self._rest.start)
        self.filter = FilterFields(self)
        self.filter.changed.connect(self._rest.start)
        self.form.addRow(self.delete)
        self.show_state("idle", None)

    def _add_write(self) -> None:
        self.write = button(
            "Write merged labels",
            "Write an OME-Zarr in the background, and show it in place of the live labels.",
            self.write_wanted.emit,
        )
        self.export = button(
            "Save as TIFF…",
            "Save the written labels as OME-TIFF with the size of a voxel, or as plain TIFF.",
            self.export_wanted.emit,
        )
        self.form.addRow(row_of(self.write, self.export, equal=True))
        self.delete = button(
            "Delete intermediate tiles…",
            "The tiles are needed only to merge again. A dialog asks first.",
            self.delete_wanted.emit,
        )

    def _add_checks(self) -> None:
        self.inspect = button(
            "Inspect merges…",
            "List all pairs at the seams. Join, cut and undo. See alarms and the seam report.",
            self.inspect_wanted.emit,
        )
        self.table = button(
            "Object table…",
            "List every object with its size, place and shape. Sort, filter and plot them, and color them by a column.",
            self.table_wanted.emit,
        )
        self.form.addRow(row_of(self.inspect, self.table, equal=True))
        self.seams = QCheckBox("Show seams")
        self.seams.setToolTip(
            "Show rings on pairs of labels at the seams: green is joined, orange is separate. Doubtful pairs come first."
        )
        self.seams.toggled.connect(self.seams_wanted.emit)
        previous = button("◀", "Previous doubtful pair (Shift+N)", lambda: self.step_wanted.emit(-1))
        following = button("▶", "Next doubtful pair (N)", lambda: self.step_wanted.emit(1))
        self.pair = Note()
        self.form.addRow(row_of(self.seams, None, previous, following))
        self.form.addRow(self.pair)

    def choice(self) -> MergeChoice:
        """Return the chosen rule and object filter."""
        rule = self.rule
        return MergeChoice(rule.name, rule.min_iou, rule.connectivity.currentIndex() + 1, self.filter.choice())

    def show_state(self, state: str, merged: StagedMerge | None, saved: str = "", *, has_labels: bool = False) -> None:
        """Enable the buttons, and show the counts of a merge and whether it is written.

        Parameters
        ----------
        state : str
            See `RunControl`.
        merged : StagedMerge or None
        saved : str, optional
            Sentence on whether the merge is written.
        has_labels : bool, default False
            Whether the job has written labels, now or before it was opened.
        """
        self.write.setEnabled(merged is not None and state in ("paused", "staged", "written"))
        self.delete.setVisible(state == "written")
        self.export.setVisible(has_labels)
        self.seams.setEnabled(merged is not None)
        self.inspect.setEnabled(merged is not None)
        self.table.setEnabled(merged is not None)
        if merged is not None:
            if merged.store is not None:
                grid = merged.store.grid
                self.filter.show_axes(grid.ndim - grid.separate_axes)
            self.counts.say(f"{_counts_text(merged)} <b>{saved}</b>")
            self.say_brief(" ".join([f"{count_text(merged.n_objects, 'object')}.", saved]).strip())
        elif state == "staging":
            self.counts.say("Labels are merged when all tiles are segmented.")
        elif state == "paused":
            self.counts.say(
                "Labels are merged when all tiles are segmented. Change the rule or the threshold to merge now."
            )
        else:
            self.counts.say("Labels appear here once tiles are segmented.")
        if merged is None:
            self.say_brief("")


class RuleFields(QObject):
    """Fields of the merge rule."""

    changed = Signal()

    def __init__(self, section: Section) -> None:
        super().__init__(section)
        self._form = section.form
        self.choice = QComboBox()
        self.choice.addItems(RULES)
        for i, rule in enumerate(RULES):
            self.choice.setItemData(i, TIPS[rule], Qt.ToolTipRole)
        section.row("Rule", self.choice, "Which labels on both sides of a seam are one object.")
        self.about = Note()
        section.form.addRow(self.about)
        self._add_threshold(section)
        self.connectivity = QComboBox()
        self.connectivity.addItems(["1: faces", "2: faces and edges", "3: faces, edges and corners"])
        section.row("Connectivity", self.connectivity, "Which voxels touch.")
        self.choice.currentTextChanged.connect(self._rule_changed)
        self.connectivity.currentIndexChanged.connect(lambda *_: self.changed.emit())
        self._rule_changed(self.name)

    def _add_threshold(self, section: Section) -> None:
        self._threshold = QWidget()
        row = QHBoxLayout(self._threshold)
        row.setContentsMargins(0, 0, 0, 0)
        self.slider = QSlider(Qt.Horizontal)
        self.slider.setRange(0, 100)
        self._value = QLabel()
        self._value.setMinimumWidth(36)
        row.addWidget(self.slider, 1)
        row.addWidget(self._value)
        # A model may have a threshold, too: of gray values.
        tip = "Smallest agreement (IoU, 0 to 1) of two labels that are joined. A lower value joins more."
        section.row("Agreement", self._threshold, tip)
        self.slider.setToolTip(tip)
        self.slider.setAccessibleName("Agreement")
        self.slider.valueChanged.connect(self._slid)

    @property
    def name(self) -> str:
        return str(self.choice.currentText())

    @property
    def min_iou(self) -> float | None:
        """The threshold; None for the default of the rule."""
        value, default = self.slider.value() / 100, DEFAULT_MIN_IOU.get(self.name)
        return None if default is None or value == default else value

    def _rule_changed(self, rule: str) -> None:
        self.about.say(TIPS[rule])
        self._form.setRowVisible(self._threshold, rule in DEFAULT_MIN_IOU)
        self._form.setRowVisible(self.connectivity, rule == "touch")
        if rule in DEFAULT_MIN_IOU:
            self.slider.setValue(round(DEFAULT_MIN_IOU[rule] * 100))
            self._slid(self.slider.value())
        self.changed.emit()

    def _slid(self, value: int) -> None:
        self._value.setText(f"{value / 100:.2f}")
        self.changed.emit()


class FilterFields(QObject):
    """Fields of the object filter."""

    changed = Signal()

    def __init__(self, section: Section) -> None:
        super().__init__(section)
        self.smallest = QSpinBox()
        self.smallest.setRange(0, 2**31 - 1)
        self.smallest.setGroupSeparatorShown(True)
        self.smallest.setSpecialValueText("any")
        self.smallest.setKeyboardTracking(False)
        section.row("Minimum size", self.smallest, "Exclude smaller objects. Sizes are counted across tiles.")
        self.show_axes(3)
        self.drop_border = QCheckBox("Exclude objects touching the image border")
        self.drop_border.setToolTip("The border cuts these objects, so their size and shape are incomplete.")
        section.form.addRow(self.drop_border)
        self.fill_holes = QCheckBox("Fill holes in objects")
        self.fill_holes.setToolTip(
            "Add background that a single object encloses to this object, also across tiles. The minimum size includes "
            "filled holes. The first use reads all tiles once."
        )
        section.form.addRow(self.fill_holes)
        self.columns = ColumnRanges()
        self.columns.changed.connect(self.changed.emit)
        section.form.addRow(self.columns)
        self.smallest.valueChanged.connect(lambda *_: self.changed.emit())
        self.drop_border.toggled.connect(lambda *_: self.changed.emit())
        self.fill_holes.toggled.connect(lambda *_: self.changed.emit())

    def choice(self) -> ObjectFilter:
        """Return the chosen filter."""
        return ObjectFilter(
            self.smallest.value() or None,
            drop_border=self.drop_border.isChecked(),
            fill_holes=self.fill_holes.isChecked(),
            ranges=self.columns.ranges,
        )

    def show_axes(self, n_spatial_axes: int) -> None:
        """Name the unit of sizes: pixels in 2D, voxels in 3D."""
        self.smallest.setSuffix(f" {voxels_name(n_spatial_axes)}s")


def _counts_text(merged: StagedMerge) -> str:
    parts = [f"from {count_text(merged.n_labels, 'label')}"]
    if merged.n_outside:
        parts.append(f"{merged.n_outside:,} outside the region")
    if merged.n_removed:
        parts.append(f"{merged.n_removed:,} excluded")
    if merged.filled is not None:
        parts.append(f"{count_text(merged.filled.n_holes, 'hole')} filled")
    text = ", ".join(parts)
    if len(merged.seams):
        text += f"; {count_text(len(merged.seams), 'pair')} at seams, {int(merged.joined.sum()):,} joined"
    text = f"<b>{count_text(merged.n_objects, 'object')}</b> {text}."
    if merged.n_incomplete:
        continues = "it continues in a skipped tile" if merged.n_incomplete == 1 else "they continue in skipped tiles"
        verb = "is" if merged.n_incomplete == 1 else "are"
        text += (
            f" <b>{count_text(merged.n_incomplete, 'object')} {verb} incomplete</b>: {continues}. "
            "To segment all of it, enlarge the region and run again."
        )
    return text
