"""Footer of the dock, always visible: run, pause, resume and stop, with progress and status."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_blockbuster.job.progress.bar import duration
from napari_blockbuster.job.progress.performance import Performance
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.widgets.controls import Note, button, row_of
from napari_blockbuster.widgets.run.control.events import StepProgress

__all__ = ["LABELS", "RunFooter"]

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


class RunFooter(QWidget):
    """Buttons, progress and status of a run. `RunActions` does the work."""

    run_wanted = Signal()
    new_wanted = Signal()
    """Close the paused run and start another one."""
    stop_wanted = Signal()
    """End the run."""

    def __init__(self) -> None:
        super().__init__()
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 6, 8, 4)
        column.setSpacing(4)
        self.reason, self.problem, self.status = Note(), Note(), Note()
        self.status.setOpenExternalLinks(True)
        self._status = self._link = self._busy = ""
        self.bar = QProgressBar()
        self.bar.setAccessibleName("Progress")
        self.bar.hide()
        self.main = QPushButton()
        self.main.setObjectName("run")
        self.main.clicked.connect(lambda *_: self.run_wanted.emit())
        self.new = button(
            "New run",
            "Keep this run as it is, and start another one with the settings of the dock.",
            self.new_wanted.emit,
        )
        self.stop = button(
            "Stop…", "End this run. A dialog asks whether to keep or to delete its tiles.", self.stop_wanted.emit
        )
        for widget in (self.problem, self.status, self.bar, self.reason, row_of(self.main, self.stop, self.new)):
            column.addWidget(widget)
        self.main.parentWidget().layout().setStretch(0, 1)
        self.show_state("idle")

    def show_state(self, state: str) -> None:
        """Show the buttons of a state of `RunControl`."""
        text = LABELS[state]
        self.main.setText(text)
        self.main.setToolTip(TIPS.get(text, ""))
        self.main.setEnabled(state not in ("pausing", "merging"))
        self.bar.setVisible(state in ("staging", "pausing", "paused", "writing"))
        self.stop.setVisible(state in ("staging", "pausing", "paused"))
        self.stop.setEnabled(state != "pausing")
        self.new.setVisible(state == "paused")
        if state == "idle":
            self.show_performance(Performance())
        if state not in ("staging", "pausing"):
            # The tooltips stay: they tell how the run went.
            self._busy = ""
        self._show_status()

    def say(self, text: str, link: str = "") -> None:
        """Show a text in the status line, with a link after it."""
        self._status, self._link = text, f" · {link}" if link else ""
        self._show_status()

    def show_performance(self, performance: Performance) -> None:
        """Show how busy the model is, and in the tooltips what it waits for and what helps."""
        line, advice = performance.line(), performance.advice()
        tip = f"<p>Model {line}.</p>" if line else ""
        if advice:
            tip += f"<p>{advice}.</p>"
        for widget in (self.bar, self.status):
            widget.setToolTip(tip)
        self._busy = f" · model busy {100 * performance.busy:.0f} %" if line else ""
        self._show_status()

    def _show_status(self) -> None:
        """Show the status, and how busy the model is if that takes no further line: the footer must not jump."""
        short, status = f"{self._status}{self._link}", self.status
        status.say(short)
        if self._status and self._busy:
            height = status.heightForWidth(status.width())
            long = f"{self._status}{self._busy}{self._link}"
            status.setText(long)
            if status.heightForWidth(status.width()) > height:
                status.setText(short)

    def show_progress(self, progress: StepProgress) -> None:
        """Move the progress bar."""
        if not progress.in_tiles:
            # A maximum of 0 is a bar that moves: also at the end, while the table is written and the labels are put in place.
            is_known = progress.done < progress.total
            self.bar.setRange(0, progress.total if is_known else 0)
            self.bar.setValue(progress.done)
            self.bar.setFormat("%p %")
            return
        self.bar.setRange(0, max(progress.total, 1))
        self.bar.setValue(progress.done + progress.failed)
        parts = [f"{progress.done:,} of {count_text(progress.total, 'tile')}"]
        if progress.failed:
            parts.append(f"{progress.failed:,} failed")
        if progress.rate:
            parts.append(f"{progress.rate:.1f} tiles/s" if progress.rate >= 1 else f"{1 / progress.rate:.1f} s/tile")
        if progress.seconds_left is not None and progress.done + progress.failed < progress.total:
            parts.append(f"{duration(progress.seconds_left)} left")
        self.bar.setFormat(" · ".join(parts))
