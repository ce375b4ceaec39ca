"""Run section of the dock: cluster, output, progress and failed tiles."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QProgressBar, QPushButton

from napari_blockbuster.job.progress.bar import duration
from napari_blockbuster.stage.store import TileFailure
from napari_blockbuster.widgets.controls import Note, Section, button, row_of
from napari_blockbuster.widgets.session import ClusterChoice

from .events import StepProgress
from .fields import ClusterFields, FailedTiles, OutputField
from .open_job import BUSY

__all__ = ["RunSection"]

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
"""Text of the main button in each state of `RunControl`."""
TIPS = {
    "Run": "Segment all tiles in the background. Finished tiles are kept, also after an error.",
    "Pause": "Stop for now. Finished tiles are kept.",
    "Resume": "Segment the tiles that are not finished yet.",
    "Stop writing": "Stop and delete the incomplete output. The tiles are kept.",
}


class RunSection(Section):
    """Fields and buttons of a run. `RunActions` does the work."""

    run_wanted = Signal()
    new_wanted = Signal()
    """Close the paused run and start another one."""
    discard_wanted = Signal()
    changed = Signal()
    """The output path changed."""
    cluster_changed = Signal()
    retry_wanted = Signal(object)
    """List of tiles to segment again."""
    tile_wanted = Signal(int)
    """A failed tile to look at."""

    def __init__(self, preferred: ClusterChoice) -> None:
        super().__init__("5  Run")
        self.output = OutputField()
        self.output.textChanged.connect(lambda *_: self.changed.emit())
        self.output.add_to(self)
        self.cluster_fields = ClusterFields(preferred, self)
        self.cluster_fields.changed.connect(self.cluster_changed)
        self.main = QPushButton()
        self.main.clicked.connect(lambda *_: self.run_wanted.emit())
        self.form.addRow(self.main)
        self._add_paused_rows()
        self.bar = QProgressBar()
        self.bar.setAccessibleName("Progress")
        self.bar.hide()
        self.form.addRow(self.bar)
        self.status = Note()
        self.status.setOpenExternalLinks(True)
        self.problem = Note()
        self.form.addRow(self.status)
        self.form.addRow(self.problem)
        self.failed = FailedTiles()
        self.failed.tile_wanted.connect(self.tile_wanted)
        self.failed.retry_wanted.connect(self.retry_wanted)
        self.form.addRow(self.failed)
        self.form.addRow(self.failed.buttons)
        self.show_state("idle")

    def _add_paused_rows(self) -> None:
        """Add the alternatives to resuming a paused run."""
        self.new = button(
            "New run", "Keep this run as it is, and start another one with the settings above.", self.new_wanted.emit
        )
        self.discard = button(
            "Discard…", "Close this run. A dialog asks whether to delete its tiles.", self.discard_wanted.emit
        )
        self.leaving = row_of(self.new, self.discard)
        self.form.addRow(self.leaving)
        self.leaving.hide()
        self.change_note = Note()
        self.form.addRow(self.change_note)
        self.layer = QComboBox()
        self.row("Image of the run", self.layer, "Layer to read the image of the run from. All have the same pixels.")
        self.form.setRowVisible(self.layer, False)

    # ------------------------------------------------------------------------------------------------------- values
    def cluster(self) -> ClusterChoice:
        """Return the chosen cluster."""
        return self.cluster_fields.choice()

    def suggest_output(self, path: Path) -> None:
        """Set the output path, unless the user typed or chose one."""
        self.output.suggest(path)

    def set_output(self, path: str | Path) -> None:
        """Set the output path. A later suggestion replaces it."""
        self.output.set_path(path)

    # ------------------------------------------------------------------------------------------------------ showing
    def show_state(self, state: str) -> None:
        """Show the state of the run."""
        text = LABELS[state]
        self.main.setText(text)
        self.main.setToolTip(TIPS.get(text, ""))
        self.main.setEnabled(state not in ("pausing", "merging"))
        self.bar.setVisible(state in ("staging", "pausing", "paused", "writing"))
        self.leaving.setVisible(state == "paused")
        self.cluster_fields.set_busy(state in BUSY)

    def offer_layers(self, names: list[str]) -> None:
        """Offer layers that show the image of the run; hidden if there are none."""
        self.layer.clear()
        self.layer.addItems(names)
        self.form.setRowVisible(self.layer, bool(names))

    def show_progress(self, progress: StepProgress) -> None:
        """Move the progress bar."""
        self.bar.setMaximum(max(progress.total, 1))
        self.bar.setValue(progress.done + progress.failed)
        parts = [f"{progress.done:,} of {progress.total:,}"]
        if progress.failed:
            parts.append(f"{progress.failed:,} failed")
        if progress.rate:
            parts.append(f"{progress.rate:.1f} tiles/s" if progress.rate >= 1 else f"{1 / progress.rate:.1f} s/tile")
        if progress.seconds_left is not None and progress.done + progress.failed < progress.total:
            parts.append(f"{duration(progress.seconds_left)} left")
        self.bar.setFormat(" · ".join(parts))

    def show_failures(self, failures: dict[int, TileFailure]) -> None:
        """List the failed tiles."""
        self.failed.show_failures(failures)

    def show_failure(self, index: int) -> None:
        """Select a failed tile, and show why it failed."""
        if text := self.failed.select(index):
            self.problem.say(text, problem=True)
