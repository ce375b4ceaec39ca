"""Fields of the run section: output, cluster and failed tiles."""

from __future__ import annotations

import os
from pathlib import Path

from napari.settings import get_plugin_settings
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QLineEdit, QListWidget, QListWidgetItem, QSpinBox

from napari_blockbuster.images import ImageSource
from napari_blockbuster.machine.limits import cpu_count
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.output.result import default_output, job_folder
from napari_blockbuster.stage.store import TileFailure
from napari_blockbuster.widgets.controls import Fold, Note, Section, button, row_of
from napari_blockbuster.widgets.session import ClusterChoice

__all__ = [
    "ClusterFields",
    "FailedTiles",
    "OutputField",
    "free_path",
    "output_for",
    "output_problem",
    "preferred_cluster",
]


class OutputField(QLineEdit):
    """Path of the merged labels. `note` is the hint below it."""

    def __init__(self) -> None:
        super().__init__()
        self.setPlaceholderText("name.labels.ome.zarr")
        self.note = Note()
        self._is_typed = False
        self.textEdited.connect(self._typed)

    def add_to(self, section: Section) -> None:
        """Add the field, its browse button and its note to a section."""
        browse = button("…", "Choose where to save the labels.", self._browse)
        tip = "Path of the OME-Zarr for the merged labels. Existing files are never overwritten."
        section.row("Save labels to", row_of(self, browse), tip)
        self.setAccessibleName("Save labels to")
        section.form.addRow(self.note)

    def suggest(self, path: Path) -> None:
        """Set the path, unless the user typed or chose one."""
        if not self._is_typed:
            self.setText(str(path))

    def set_path(self, path: str | Path) -> None:
        """Set the path. A later suggestion replaces it."""
        self._is_typed = False
        self.setText(str(path))

    def _typed(self, text: str) -> None:
        # An empty field accepts suggestions again.
        self._is_typed = bool(text.strip())

    def _browse(self) -> None:
        start = self.text() or str(Path.home() / "labels.ome.zarr")
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Save labels to", start, "OME-Zarr (*.zarr)", options=QFileDialog.DontConfirmOverwrite
        )
        if chosen:
            self._is_typed = True
            self.setText(chosen if chosen.endswith(".zarr") else f"{chosen}.ome.zarr")


class ClusterFields(QObject):
    """Fields that choose a cluster, folded below the rows of a section."""

    changed = Signal()

    def __init__(self, preferred: ClusterChoice, below: Section) -> None:
        super().__init__(below)
        section = Section("Workers")
        section.form.setContentsMargins(6, 0, 0, 0)
        self.fold = Fold("More", section)
        below.form.addRow(self.fold)
        below.form.addRow(section)
        self.workers = QSpinBox()
        self.workers.setRange(1, 1024)
        # Leave one processor to the viewer if there are enough.
        self.workers.setValue(preferred.n_workers or (cpu_count() - 1 if cpu_count() > 2 else cpu_count()))
        section.row("Workers", self.workers, "Processes on this machine. Each works on one tile.")
        self.gpu = QCheckBox("Use the GPUs")
        section.row("GPU", self.gpu, "For models that run on a GPU.")
        self.per_gpu = QSpinBox()
        self.per_gpu.setRange(0, 64)
        self.per_gpu.setSpecialValueText("Automatic")
        tip = "Processes that share a GPU. Several keep it busy while others read, write and make objects on the CPU."
        section.row("Workers per GPU", self.per_gpu, tip)
        self.address = QLineEdit()
        self.address.setPlaceholderText("On this machine")
        section.row("Scheduler", self.address, "Address of a running dask scheduler, such as tcp://host:8786.")
        self._is_busy = False
        signals = (self.workers.valueChanged, self.gpu.toggled, self.per_gpu.valueChanged, self.address.textChanged)
        for signal in signals:
            signal.connect(lambda *_: self._changed())
        self.gpu.setChecked(preferred.use_gpu)
        self.per_gpu.setValue(preferred.workers_per_gpu)
        self.address.setText(preferred.address)
        self._enable()

    def choice(self) -> ClusterChoice:
        """Return the chosen cluster."""
        return ClusterChoice(
            self.workers.value(), self.gpu.isChecked(), self.address.text().strip(), self.per_gpu.value()
        )

    def set_busy(self, busy: bool) -> None:
        """Disable the fields during a step, because it stays on its cluster."""
        self._is_busy = busy
        self._enable()

    def _changed(self) -> None:
        self._enable()
        self.changed.emit()

    def _describe(self) -> None:
        choice = self.choice()
        if choice.address:
            self.fold.say(choice.address)
        elif choice.use_gpu:
            self.fold.say("on the GPUs")
        else:
            self.fold.say(count_text(choice.n_workers, "worker"))

    def _enable(self) -> None:
        for field in (self.gpu, self.address):
            field.setEnabled(not self._is_busy)
        is_local = not self.address.text().strip() and not self._is_busy
        self.workers.setEnabled(is_local and not self.gpu.isChecked())
        self.per_gpu.setEnabled(is_local and self.gpu.isChecked())
        self._describe()


class FailedTiles(QListWidget):
    """List of failed tiles, hidden while empty. `buttons` is the row of buttons below it."""

    tile_wanted = Signal(int)
    """A tile to look at."""
    retry_wanted = Signal(object)
    """List of tiles to segment once more."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Failed tiles")
        self.setMaximumHeight(90)
        self.setWordWrap(True)
        self.setToolTip("Tiles that could not be segmented. Click one to see it. Its tooltip shows the whole error.")
        self.currentItemChanged.connect(self._look)
        self.itemClicked.connect(self._look)
        self.buttons = row_of(
            button("Retry this tile", "Segment the selected tile again.", self._retry_one),
            button("Retry all", "Segment all failed tiles again.", self._retry_all),
        )
        self.show_failures({})

    def show_failures(self, failures: dict[int, TileFailure]) -> None:
        """List failed tiles."""
        self.blockSignals(True)
        self.clear()
        for index, failure in failures.items():
            reason = f": {failure.message.splitlines()[0]}" if failure.message else ""
            item = QListWidgetItem(f"Tile {index}: {failure.error}{reason}")
            item.setData(Qt.UserRole, index)
            item.setToolTip(failure.traceback or failure.message)
            self.addItem(item)
        self.blockSignals(False)
        self.setVisible(bool(failures))
        self.buttons.setVisible(bool(failures))

    def select(self, index: int) -> str:
        """Select a tile; returns its text, or "" if it is not listed."""
        for row in range(self.count()):
            item = self.item(row)
            if item.data(Qt.UserRole) == index:
                self.blockSignals(True)
                self.setCurrentItem(item)
                self.blockSignals(False)
                return str(item.text())
        return ""

    def _look(self, item: QListWidgetItem | None, _: QListWidgetItem | None = None) -> None:
        if item is not None:
            self.tile_wanted.emit(item.data(Qt.UserRole))

    def _retry_one(self) -> None:
        item = self.currentItem() or self.item(0)
        if item is not None:
            self.retry_wanted.emit([item.data(Qt.UserRole)])

    def _retry_all(self) -> None:
        self.retry_wanted.emit([self.item(row).data(Qt.UserRole) for row in range(self.count())])


def preferred_cluster() -> ClusterChoice:
    """Return the cluster of napari's preferences."""
    try:
        cluster = get_plugin_settings("napari-blockbuster").cluster
        return ClusterChoice(int(cluster.workers), bool(cluster.gpu), str(cluster.scheduler))
    except (KeyError, AttributeError):
        # In a checkout that is not installed as a plugin there are no preferences.
        return ClusterChoice(0)


def output_for(source: ImageSource) -> Path:
    """Return the default path for the labels of an image: next to it, or in the home folder if it is in memory."""
    try:
        return free_path(default_output(source))
    except ValueError:
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in source.name)
        return free_path(Path.home() / f"{name}.labels.ome.zarr")


def output_problem(text: str) -> str:
    """Return why labels cannot be saved to a path, or ""."""
    if not text:
        return "Choose where to save the labels."
    path = Path(text).expanduser().absolute()
    if path.exists():
        return f"{path.name} exists already and will not be overwritten. Choose another name."
    parent = next(parent for parent in path.parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        return f"{path.name} cannot be saved in {parent}, which is no writable folder. Choose another folder."
    return ""


def free_path(path: Path, beside_jobs: bool = False) -> Path:
    """Return a path like this one, numbered if needed, without a result.

    Parameters
    ----------
    path : Path
    beside_jobs : bool, default False
        Also avoid the paths of jobs that have no result yet. If false, such a job can be resumed.
    """
    suffix = next((each for each in (".ome.zarr", ".zarr") if path.name.endswith(each)), "")
    stem, number = path.name.removesuffix(suffix), 1

    def is_taken(name: str) -> bool:
        place = path.with_name(f"{name}{suffix}")
        return place.exists() or (beside_jobs and job_folder(place).exists())

    if not is_taken(stem):
        return path
    base, dash, last = stem.rpartition("-")
    if dash and last.isdecimal() and is_taken(base):
        # The name is numbered already: count on.
        stem, number = base, int(last)
    while is_taken(f"{stem}-{number + 1}"):
        number += 1
    return path.with_name(f"{stem}-{number + 1}{suffix}")
