"""The run: where tiles run, where labels go, how far it is, which tiles failed."""

from __future__ import annotations

from pathlib import Path

from napari.settings import get_plugin_settings
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
    QSpinBox,
)

from napari_blockbuster.images import ImageSource
from napari_blockbuster.job.progress import duration
from napari_blockbuster.machine.limits import cpu_count
from napari_blockbuster.output.result import default_output, job_folder
from napari_blockbuster.stage.store import TileFailure
from napari_blockbuster.widgets.controls import Note, Section, button, row_of

from .events import Progress
from .session import ClusterChoice

__all__ = ["RunSection", "free_path", "output_for", "preferred_cluster"]

LABELS = {
    "idle": "Run",
    "staging": "Pause",
    "pausing": "Pausing…",
    "paused": "Resume",
    "staged": "Run",
    "merging": "Run",
    "writing": "Stop writing",
    "written": "Run",
}
"""What the main button says in each state of `RunControl`."""


class RunSection(Section):
    """Fields and buttons of a run. What they ask for is done by `RunControl`."""

    run_wanted = Signal()
    new_wanted = Signal()
    """Leave the paused run and start another one."""
    discard_wanted = Signal()
    changed = Signal()
    """The output is another one."""
    cluster_changed = Signal()
    retry_wanted = Signal(object)
    """Tiles to try again."""
    tile_wanted = Signal(int)
    """A failed tile to look at."""

    def __init__(self, preferred: ClusterChoice) -> None:
        super().__init__("5  Run")
        self._fields(preferred)
        self.main = QPushButton("Run")
        self.main.setToolTip("Segment all tiles in the background. What is finished stays, whatever happens.")
        self.main.clicked.connect(lambda *_: self.run_wanted.emit())
        self.form.addRow(self.main)
        self._leaving()
        self.bar = QProgressBar()
        self.bar.setAccessibleName("progress")
        self.bar.hide()
        self.form.addRow(self.bar)
        self.status = Note()
        self.status.setOpenExternalLinks(True)
        self.problem = Note()
        self.form.addRow(self.status)
        self.form.addRow(self.problem)
        self._failed_list()

    def _fields(self, preferred: ClusterChoice) -> None:
        self.output = QLineEdit()
        self.output.setPlaceholderText("folder of the labels: name.labels.ome.zarr")
        self.output.textChanged.connect(lambda *_: self.changed.emit())
        self.output.textEdited.connect(self._typed)
        self._is_typed = False
        browse = button("…", "Choose where the labels go.", self._browse)
        self.row(
            "labels in",
            row_of(self.output, browse),
            "The OME-Zarr of the merged labels. Nothing that exists is overwritten.",
        )
        self.output.setAccessibleName("labels in")
        self.output_note = Note()
        self.form.addRow(self.output_note)
        self.workers = QSpinBox()
        self.workers.setRange(1, 1024)
        # One processor is left to the viewer, where there are enough.
        self.workers.setValue(preferred.n_workers or (cpu_count() - 1 if cpu_count() > 2 else cpu_count()))
        self.row("workers", self.workers, "Processes on this machine, each working on one tile.")
        self.gpu = QCheckBox("one worker for each GPU")
        self.row("GPU", self.gpu, "For models that run on a GPU.")
        self.address = QLineEdit()
        self.address.setPlaceholderText("none: workers on this machine")
        self.row("scheduler", self.address, "Address of a dask cluster that runs already: tcp://host:8786.")
        for signal in (self.workers.valueChanged, self.gpu.toggled, self.address.textChanged):
            signal.connect(lambda *_: self._cluster_changed())
        self.gpu.setChecked(preferred.use_gpu)
        self.address.setText(preferred.address)

    def _leaving(self) -> None:
        """Ways on for a paused run, besides resuming it."""
        self.new = button(
            "New run", "Leave this run as it is, and start another one with the settings above.", self.new_wanted.emit
        )
        self.discard = button(
            "Discard…", "Leave this run. You are asked whether its tiles are deleted.", self.discard_wanted.emit
        )
        self.leaving = row_of(self.new, self.discard)
        self.form.addRow(self.leaving)
        self.leaving.hide()
        self.change_note = Note()
        self.form.addRow(self.change_note)
        self.layer = QComboBox()
        self.row(
            "image of the run", self.layer, "Open layers with the same pixels. The run reads its image from this one."
        )
        self.form.setRowVisible(self.layer, False)

    def _failed_list(self) -> None:
        self.failed = QListWidget()
        self.failed.setAccessibleName("failed tiles")
        self.failed.setMaximumHeight(90)
        self.failed.setToolTip(
            "Tiles that could not be segmented. Choose one to see it; the whole error is its tooltip."
        )
        self.failed.currentItemChanged.connect(self._look)
        self.failed.itemClicked.connect(lambda item: self._look(item))
        self.retry = row_of(
            button("Try this tile again", "Segment the chosen tile once more.", self._retry_one),
            button("Try all again", "Segment all failed tiles once more.", self._retry_all),
        )
        self.form.addRow(self.failed)
        self.form.addRow(self.retry)
        self.show_failures({})

    # ------------------------------------------------------------------------------------------------------- values
    def cluster(self) -> ClusterChoice:
        """Where tiles run."""
        return ClusterChoice(self.workers.value(), self.gpu.isChecked(), self.address.text().strip())

    def _cluster_changed(self) -> None:
        self.workers.setEnabled(not self.gpu.isChecked() and not self.address.text().strip())
        self.cluster_changed.emit()

    def _typed(self, text: str) -> None:
        # An emptied field asks for a suggestion again.
        self._is_typed = bool(text.strip())

    def suggest_output(self, path: Path) -> None:
        """Set where the labels go, unless the user has typed or chosen a place."""
        if not self._is_typed:
            self.output.setText(str(path))

    def set_output(self, path: str | Path) -> None:
        """Set where the labels go. A later suggestion replaces it."""
        self._is_typed = False
        self.output.setText(str(path))

    def _browse(self) -> None:
        start = self.output.text() or str(Path.home() / "labels.ome.zarr")
        chosen, _ = QFileDialog.getSaveFileName(
            self, "Labels in", start, "OME-Zarr (*.zarr)", options=QFileDialog.DontConfirmOverwrite
        )
        if chosen:
            self._is_typed = True
            self.output.setText(chosen if chosen.endswith(".zarr") else f"{chosen}.ome.zarr")

    # ------------------------------------------------------------------------------------------------------ showing
    def show_state(self, state: str) -> None:
        """Label and enable the main button."""
        self.main.setText(LABELS[state])
        self.main.setEnabled(state not in ("pausing", "merging"))
        self.bar.setVisible(state in ("staging", "pausing", "paused", "writing"))
        self.leaving.setVisible(state == "paused")
        # Another cluster is used by the next step: the one that works now is not taken away from its run.
        busy = state in ("staging", "pausing", "merging", "writing")
        for field in (self.gpu, self.address):
            field.setEnabled(not busy)
        self.workers.setEnabled(not busy and not self.gpu.isChecked() and not self.address.text().strip())

    def offer_layers(self, names: list[str]) -> None:
        """Offer layers that show the image of the run; none hides the field."""
        self.layer.clear()
        self.layer.addItems(names)
        self.form.setRowVisible(self.layer, bool(names))

    def show_progress(self, progress: Progress) -> None:
        """Move the bar."""
        self.bar.setMaximum(max(progress.total, 1))
        self.bar.setValue(progress.done + progress.failed)
        parts = [f"{progress.done:,} of {progress.total:,}"]
        if progress.failed:
            parts.append(f"{progress.failed} failed")
        if progress.rate:
            per_second = f"{progress.rate:.1f} tiles/s" if progress.rate >= 1 else f"{1 / progress.rate:.1f} s a tile"
            parts.append(per_second)
        if progress.seconds_left is not None and progress.done + progress.failed < progress.total:
            parts.append(f"{duration(progress.seconds_left)} left")
        self.bar.setFormat(" · ".join(parts))

    def show_failures(self, failures: dict[int, TileFailure]) -> None:
        """List the failed tiles; nothing is shown while there are none."""
        self.failed.blockSignals(True)
        self.failed.clear()
        for index, failure in failures.items():
            item = QListWidgetItem(
                f"tile {index}: {failure.error}: {failure.message.splitlines()[0]}"
                if failure.message
                else f"tile {index}: {failure.error}"
            )
            item.setData(Qt.UserRole, index)
            item.setToolTip(failure.traceback or failure.message)
            self.failed.addItem(item)
        self.failed.blockSignals(False)
        self.failed.setVisible(bool(failures))
        self.retry.setVisible(bool(failures))

    def show_failure(self, index: int) -> None:
        """Choose a failed tile in the list, and say why it failed."""
        for row in range(self.failed.count()):
            item = self.failed.item(row)
            if item.data(Qt.UserRole) == index:
                self.failed.blockSignals(True)
                self.failed.setCurrentItem(item)
                self.failed.blockSignals(False)
                self.problem.say(item.text(), problem=True)

    def _look(self, item: QListWidgetItem | None, before: QListWidgetItem | None = None) -> None:
        if item is not None:
            self.tile_wanted.emit(item.data(Qt.UserRole))

    def _retry_one(self) -> None:
        item = self.failed.currentItem() or self.failed.item(0)
        if item is not None:
            self.retry_wanted.emit([item.data(Qt.UserRole)])

    def _retry_all(self) -> None:
        self.retry_wanted.emit([self.failed.item(i).data(Qt.UserRole) for i in range(self.failed.count())])


def preferred_cluster() -> ClusterChoice:
    """Where tiles run, from napari's preferences; workers 0 means what suits the machine."""
    try:
        cluster = get_plugin_settings("napari-blockbuster").cluster
        return ClusterChoice(int(cluster.workers), bool(cluster.gpu), str(cluster.scheduler))
    except (KeyError, AttributeError):
        # Run from a checkout that napari does not know as a plugin.
        return ClusterChoice(0)


def output_for(source: ImageSource) -> Path:
    """Where the labels of an image go if nobody says otherwise: beside it, or in the home folder for one in memory."""
    try:
        return free_path(default_output(source))
    except ValueError:
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in source.name)
        return free_path(Path.home() / f"{name}.labels.ome.zarr")


def free_path(path: Path, beside_jobs: bool = False) -> Path:
    """Return a path like this one at which there is no result yet.

    Parameters
    ----------
    path : Path
    beside_jobs : bool, default False
        Whether a place at which a job was begun counts as taken. If not, that job can be resumed.
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
        # This name has a number already, and the next one follows.
        stem, number = base, int(last)
    while is_taken(f"{stem}-{number + 1}"):
        number += 1
    return path.with_name(f"{stem}-{number + 1}{suffix}")
