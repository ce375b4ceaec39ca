"""List of the runs of this session: running, paused and done. A click opens one with its layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from napari_blockbuster.job.folder.job_folder import JobFolder
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.widgets.run.control.control import RunControl

__all__ = ["JobList"]

ROWS = 3
"""Runs that are visible at once."""
STATES = {
    "staging": "running",
    "pausing": "pausing",
    "paused": "paused",
    "staged": "segmented",
    "merging": "segmented",
    "writing": "writing",
    "written": "written",
}
"""Word for each state of a `RunControl` with an open job."""


@dataclass
class _Line:
    """What is known of a run."""

    name: str
    state: str = ""
    progress: str = ""
    is_open: bool = True

    def text(self) -> str:
        state = "done" if self.state == "written" and not self.is_open else self.state
        return f"{'▸ ' if self.is_open else '   '}{self.name}: {state}{self.progress}"


class JobList(QWidget):
    """One line for each run, hidden while there is one run or none.

    Parameters
    ----------
    control : RunControl
        Its open job is the first line that is marked.
    """

    wanted = Signal(object)
    """Folder of a run to open."""

    def __init__(self, control: RunControl) -> None:
        super().__init__()
        self._control = control
        self._lines: dict[Path, _Line] = {}
        self.title = QLabel("Runs")
        self.title.setStyleSheet("font-weight: bold;")
        self.list = QListWidget()
        self.list.setAccessibleName("Runs")
        self.list.setToolTip("Runs of this session. Click one to open it with its layers.")
        self.list.setTextElideMode(Qt.ElideMiddle)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        self.list.itemClicked.connect(self._chosen)
        self.list.itemActivated.connect(self._chosen)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 4, 8, 0)
        column.setSpacing(2)
        column.addWidget(self.title)
        column.addWidget(self.list)
        control.changed.connect(self._update)
        control.progressed.connect(lambda *_: self._update())
        # The last word on a run that is deleted is its status.
        control.status.connect(lambda *_: self._forget_deleted())
        self._show()

    def _update(self) -> None:
        """Take the state of the open job."""
        job = self._control.job
        for line in self._lines.values():
            line.is_open = False
        if job is not None:
            line = self._lines.setdefault(job.folder, _Line(_name(job.folder)))
            progress, failed = self._control.progress, len(self._control.failures)
            line.is_open, line.state = True, STATES.get(self._control.state, "")
            line.progress = ""
            if line.state in ("running", "pausing", "paused"):
                line.progress = f", {progress.done:,} of {count_text(progress.total, 'tile')}"
            if failed:
                line.progress += f", {failed:,} failed"
        self._show()

    def _forget_deleted(self) -> None:
        closed = [folder for folder, line in self._lines.items() if not line.is_open]
        for folder in closed:
            if not JobFolder(folder).is_job():
                del self._lines[folder]
        self._update()

    def _show(self) -> None:
        shown = [(self.list.item(i).data(Qt.UserRole), self.list.item(i).text()) for i in range(self.list.count())]
        wanted = [(folder, line.text()) for folder, line in self._lines.items()]
        self.setVisible(len(wanted) > 1)
        if shown == wanted:
            return
        self.list.clear()
        for folder, text in wanted:
            item = QListWidgetItem(text)
            item.setData(Qt.UserRole, folder)
            item.setToolTip(str(folder))
            self.list.addItem(item)
        rows = min(max(len(wanted), 1), ROWS)
        self.list.setFixedHeight(rows * max(self.list.sizeHintForRow(0), 16) + 2 * self.list.frameWidth() + 2)

    def _chosen(self, item: QListWidgetItem) -> None:
        folder = item.data(Qt.UserRole)
        job = self._control.job
        if job is None or job.folder != folder:
            self.wanted.emit(folder)


def _name(folder: Path) -> str:
    return folder.name.removesuffix(".job").removesuffix(".zarr").removesuffix(".ome").removesuffix(".labels")
