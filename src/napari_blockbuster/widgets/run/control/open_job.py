"""The job that is open in the viewer: its data, its state, and the thread of its current step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_blockbuster.job.job import Job
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.output.result import Result, StagedMerge
from napari_blockbuster.stage.store import TileFailure
from napari_blockbuster.widgets.layers.of_job.job_view import JobView
from napari_blockbuster.widgets.runner import stream
from napari_blockbuster.widgets.session import SessionCluster

from .earlier_result import EarlierResult
from .events import RunLifetime, StepProgress, Stopped

__all__ = ["BUSY", "OpenJob", "StepThread"]

BUSY = ("staging", "pausing", "merging", "writing")
"""States in which a step runs."""


class OpenJob:
    """Data of the job that is open; all empty while none is.

    Attributes
    ----------
    job : Job or None
    view : JobView or None
        Its layers.
    unread : list of int
        Staged tiles that the live layer does not show yet.
    decisions : Decisions or None
    merged, unfiltered : StagedMerge or None
        The current merge, after and before its object filter.
    result : Result or None
        The written labels.
    saved : StagedMerge or None
        The merge that was written.
    earlier : EarlierResult or None
        The result that the job wrote before it was opened.
    failures : dict of int to TileFailure
    again : frozenset of int
        Tiles that were segmented again.
    """

    def __init__(self) -> None:
        self.job: Job | None = None
        self.view: JobView | None = None
        self.unread: list[int] = []
        self.decisions: Decisions | None = None
        self.merged: StagedMerge | None = None
        self.unfiltered: StagedMerge | None = None
        self.result: Result | None = None
        self.saved: StagedMerge | None = None
        self.earlier: EarlierResult | None = None
        self.failures: dict[int, TileFailure] = {}
        self.again: frozenset[int] = frozenset()

    @property
    def written_path(self) -> Path | None:
        """Path of the labels that this job wrote, now or before; None if there are none."""
        if self.result is not None:
            return self.result.path
        return None if self.earlier is None else self.earlier.path

    @property
    def saved_note(self) -> str:
        """Whether the current merge is written, as a sentence; "" without a job."""
        job, merged = self.job, self.merged
        if job is None:
            return ""
        if self.saved is not None:
            same = merged is None or merged is self.saved
        elif self.earlier is not None:
            same = merged is None or self.earlier.is_of(merged, job)
        else:
            return "Not written yet."
        return "Written." if same else "Changed since the labels were written."


class StepThread(QObject):
    """Runs one step of a job at a time in a thread. What the thread sends is ignored once its job is closed.

    `state` is one of ``idle``, ``staging``, ``pausing``, ``paused``, ``staged``, ``merging``, ``writing``, ``written``.
    """

    changed = Signal()
    """State or merge changed."""
    progressed = Signal(object)
    """A `StepProgress`."""
    status = Signal(str)
    """Text for the status line."""
    failed = Signal(str)
    """A step failed, and why."""

    def __init__(self, cluster: SessionCluster, parent: QObject) -> None:
        super().__init__(parent)
        self.cluster = cluster
        self.open = OpenJob()
        self.state = self.state_after = "idle"
        self.life = life = RunLifetime()
        # Threads check this value, and may outlive this object.
        self.destroyed.connect(lambda *_: life.end())

    @property
    def is_busy(self) -> bool:
        return self.state in BUSY

    def set_state(self, state: str) -> None:
        """Enter a state."""
        if state != self.state:
            self.life.spare_viewer(state == "staging")
        self.state = state
        self.changed.emit()

    def start(
        self,
        state: str,
        produce: Callable[[], Iterator[Any]],
        on_event: Callable[[Any], None],
        on_done: Callable[[], None],
    ) -> None:
        """Enter a state and run a generator in a thread.

        `state_after` equals `state` until an event of the step changes it.
        """
        self.state_after = state
        self.set_state(state)
        while_open = self.while_open
        stream(produce, while_open(on_event), while_open(on_done), while_open(self.report), self)

    def while_open(self, call: Callable[..., None]) -> Callable[..., None]:
        """Return a function that calls another one only while the current job is open."""
        is_closed = self.closed_check()
        return lambda *args: None if is_closed() else call(*args)

    def closed_check(self) -> Callable[[], bool]:
        """Return a function for threads: whether the current job was closed meanwhile."""
        life, generation = self.life, self.life.generation
        return lambda: life.generation != generation

    def progress_callback(self, stopped: Callable[[], bool] = lambda: False) -> Callable[[int, int], None]:
        """Return a progress function for threads. It raises `Stopped` when the job is closed or `stopped` says so."""
        is_closed = self.closed_check()

        def progress(done: int, total: int) -> None:
            if is_closed() or stopped():
                raise Stopped
            # Qt delivers the signal in the GUI thread.
            self.progressed.emit(StepProgress(done, total, in_tiles=False))

        return progress

    def report(self, error: Exception) -> None:
        """Report the error that ended a step."""
        if isinstance(error, Stopped):
            self.status.emit("Writing stopped. The tiles are kept.")
            return
        if self.state_after == self.state:
            # No outcome arrived, so the status line still shows the step.
            self.status.emit("Stopped by an error")
        self.failed.emit(str(error) or type(error).__name__)

    def close(self) -> None:
        """Close the job. It can be opened again from its folder."""
        self.life.end()
        if self.open.view is not None:
            self.open.view.close(keep=self.state == "written")
        self.open = OpenJob()
        self.set_state("idle")
