"""Run step of the dock: output, cluster and failed tiles. Its footer has the buttons and the progress."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QProgressBar, QPushButton

from napari_blockbuster.machine.units import count_text
from napari_blockbuster.stage.store import TileFailure
from napari_blockbuster.widgets.controls import Note, Section
from napari_blockbuster.widgets.run.control.events import StepProgress
from napari_blockbuster.widgets.run.control.open_job import BUSY
from napari_blockbuster.widgets.session import ClusterChoice

from .fields import ClusterFields, FailedTiles, OutputField
from .footer import LABELS, RunFooter

__all__ = ["LABELS", "RunSection"]


class RunSection(Section):
    """Fields of a run, and the footer with its buttons. `RunActions` does the work."""

    changed = Signal()
    """The output path changed."""
    cluster_changed = Signal()
    retry_wanted = Signal(object)
    """List of tiles to segment again."""
    tile_wanted = Signal(int)
    """A failed tile to look at."""

    def __init__(self, preferred: ClusterChoice) -> None:
        super().__init__("Run")
        self.footer = RunFooter()
        self.output = OutputField()
        self.output.textChanged.connect(lambda *_: self._output_changed())
        self.output.add_to(self)
        self.change_note = Note()
        self.form.addRow(self.change_note)
        self.layer = QComboBox()
        self.row("Image of the run", self.layer, "Layer to read the image of the run from. All have the same pixels.")
        self.form.setRowVisible(self.layer, False)
        self.failed = FailedTiles()
        self.failed.tile_wanted.connect(self.tile_wanted)
        self.failed.retry_wanted.connect(self.retry_wanted)
        self.form.addRow(self.failed)
        self.form.addRow(self.failed.buttons)
        self.cluster_fields = ClusterFields(preferred, self)
        self.cluster_fields.changed.connect(self.cluster_changed)
        self.show_state("idle")

    # ------------------------------------------------------------------------------------------------------- footer
    @property
    def main(self) -> QPushButton:
        """Button that runs, pauses, resumes, or stops writing."""
        return self.footer.main

    @property
    def new(self) -> QPushButton:
        """Button that starts another run."""
        return self.footer.new

    @property
    def discard(self) -> QPushButton:
        """Button that ends the run."""
        return self.footer.stop

    @property
    def bar(self) -> QProgressBar:
        """Progress of the current step."""
        return self.footer.bar

    @property
    def status(self) -> Note:
        """Status line."""
        return self.footer.status

    @property
    def problem(self) -> Note:
        """Reason why a step failed."""
        return self.footer.problem

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
        self.footer.show_state(state)
        self.cluster_fields.set_busy(state in BUSY)

    def offer_layers(self, names: list[str]) -> None:
        """Offer layers that show the image of the run; hidden if there are none."""
        self.layer.clear()
        self.layer.addItems(names)
        self.form.setRowVisible(self.layer, bool(names))

    def show_progress(self, progress: StepProgress) -> None:
        """Move the progress bar."""
        self.footer.show_progress(progress)

    def show_failures(self, failures: dict[int, TileFailure]) -> None:
        """List the failed tiles."""
        self.failed.show_failures(failures)
        self._describe()

    def show_failure(self, index: int) -> None:
        """Select a failed tile, and show why it failed."""
        if text := self.failed.select(index):
            self.problem.say(text, problem=True)

    def show_output_note(self, text: str, problem: bool) -> None:
        """Show a hint on the output path."""
        self.output.note.say(text, problem=problem)
        self._describe()

    def _output_changed(self) -> None:
        self._describe()
        self.changed.emit()

    def _describe(self) -> None:
        n_failed, note = self.failed.count(), self.output.note
        if n_failed:
            self.say_brief(f"{count_text(n_failed, 'tile')} failed", problem=True)
        elif note.is_problem:
            self.say_brief(note.plain, problem=True)
        else:
            text = self.output.text().strip()
            self.say_brief(f"to {Path(text).name}" if text else "")
