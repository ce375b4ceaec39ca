"""Search for alarms of a merge, and compute its seam report, in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_blockbuster.inspect.seam_report import SeamReport
from napari_blockbuster.widgets.run.control.control import RunControl
from napari_blockbuster.widgets.runner import stream

__all__ = ["AlarmSearch"]

QUIET = 700
"""Milliseconds without another merge until a search starts. A search takes as long as several merges."""


class AlarmSearch(QObject):
    """Searches the current merge of a `RunControl`."""

    alarms_found = Signal(list)
    report_found = Signal(object)
    failed = Signal(str)
    """The search failed, and why."""

    def __init__(self, control: RunControl, parent: QObject) -> None:
        super().__init__(parent)
        self._control = control
        self._requests = 0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(QUIET)
        self._timer.timeout.connect(self._start)

    @property
    def is_waiting(self) -> bool:
        """Whether a search was requested and has not started."""
        return bool(self._timer.isActive())

    def request(self) -> None:
        """Search the current merge once no other merge follows."""
        self._timer.start()

    def _start(self) -> None:
        # The list shows pairs from before the object filter, but alarms are about the objects that it keeps.
        job, merged = self._control.job, self._control.merged
        if job is None or merged is None:
            return
        self._requests += 1
        request = self._requests
        names = job.source.axes if job.source is not None else tuple(job.spec.image["axes"])

        def search() -> Iterator[Any]:
            yield job.tiles.alarms(merged)
            if request == self._requests:
                yield job.tiles.seam_report(merged, names)

        def found(event: Any) -> None:
            if request != self._requests:
                return
            if isinstance(event, SeamReport):
                self.report_found.emit(event)
            else:
                self.alarms_found.emit(event)

        stream(search, found, None, lambda error: self.failed.emit(str(error)), owner=self)
