"""Write the merged labels of a job, and delete its tiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_blockbuster.job.job import Job
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.output.result import Result, StagedMerge
from napari_blockbuster.widgets.runner import in_thread

from . import steps
from .events import Status, StepProgress
from .open_job import StepThread

__all__ = ["Writing"]


class Writing(QObject):
    """Writes the labels of the job of a `StepThread`."""

    written = Signal(object)
    """A `napari_blockbuster.output.result.Result`."""
    closing = Signal()
    """The tiles of the job are deleted, so it must be closed."""

    def __init__(self, thread: StepThread, parent: QObject) -> None:
        super().__init__(parent)
        self._thread = thread
        self._is_stopped = False

    def write(self, overwrite: bool = False) -> None:
        """Write the merged labels, and show the written labels in place of the live layer."""
        thread, current = self._thread, self._thread.open
        job, merged = current.job, current.merged
        if job is None or merged is None or thread.is_busy:
            return
        self._is_stopped = False
        before, progress = thread.state, thread.progress_callback(lambda: self._is_stopped)

        def produce() -> Iterator[Status | Result]:
            yield Status("Starting workers…")
            client = thread.cluster.client()
            yield Status("Writing merged labels")
            yield job.write(merged, client, overwrite=overwrite, keep_stage=True, progress=progress)

        def receive(event: Any) -> None:
            if isinstance(event, Status):
                thread.status.emit(event.text)
            else:
                self._show(event, merged)

        def ended() -> None:
            thread.set_state("written" if current.result else before)

        thread.start("writing", produce, receive, ended)
        # The bar still shows the tiles of the run.
        thread.progressed.emit(StepProgress(0, 0, in_tiles=False))

    def stop(self) -> None:
        """Stop writing. The incomplete output is deleted; the tiles are kept."""
        self._is_stopped = True

    def _show(self, result: Any, merged: StagedMerge) -> None:
        current = self._thread.open
        current.result, current.saved = result, merged
        if current.view is not None:
            current.view.show_result(result.path)
        self._thread.status.emit(f"{count_text(result.n_objects, 'object')} in {result.path}")
        self.written.emit(result)

    def delete_job(self) -> None:
        """Delete and close the job. Written labels are kept."""
        thread, job = self._thread, self._thread.open.job
        if job is None or thread.is_busy:
            return
        self.closing.emit()
        session, text = thread.cluster.session, f"The tiles in {job.folder.name} are deleted."
        thread.status.emit(f"Deleting the tiles in {job.folder.name}")

        def failed(error: Exception) -> None:
            thread.status.emit(f"The tiles in {job.folder.name} are not deleted.")
            thread.failed.emit(str(error))

        in_thread(lambda: steps.delete_job(job, session), lambda _: thread.status.emit(text), failed, owner=thread)

    def delete_tiles(self) -> None:
        """Delete the tiles of a job whose labels are written. The labels can then not be merged again."""
        thread, job = self._thread, self._thread.open.job
        if job is not None and thread.state == "written":
            in_thread(job.tiles.delete, lambda _: self._tiles_deleted(job), thread.report, owner=thread)

    def _tiles_deleted(self, job: Job) -> None:
        # The written labels stay in the viewer as an ordinary layer.
        if self._thread.open.job is job:
            self.closing.emit()
        self._thread.status.emit("Intermediate tiles deleted")
