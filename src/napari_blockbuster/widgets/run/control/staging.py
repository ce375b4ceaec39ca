"""Stage the tiles of a job: create or open it, pause, resume, and show the tiles that arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_blockbuster.job.job import Heartbeat, Job, TileFailed, TileStaged
from napari_blockbuster.widgets.layers.of_job.job_view import JobView
from napari_blockbuster.widgets.layers.of_job.live import LiveLabels

from . import steps
from .events import Meter, Opened, StagingOutcome, Status, StepProgress, TilesRead
from .open_job import StepThread

__all__ = ["JobOpening", "Staging"]


@dataclass(frozen=True)
class JobOpening:
    """How a job is opened and shown.

    Attributes
    ----------
    create : callable
        Create or open the job. Called in a thread.
    place : callable
        Return scale, translation and units of its layers. Called in the GUI thread once the job is open.
    name : str
        Of the labels layer.
    run : bool
        Whether to stage its tiles after it is opened.
    """

    create: Callable[[], Job]
    place: Callable[[Job], dict[str, Any]]
    name: str
    run: bool


class Staging(QObject):
    """Opens and stages the job of a `StepThread`."""

    completed = Signal()
    """All tiles are staged or failed."""
    warned = Signal(str)
    """Warning that is shown besides the status line."""
    failed_clicked = Signal(int)
    """A failed tile was clicked in the viewer."""

    def __init__(self, viewer: Any, thread: StepThread, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._thread = viewer, thread
        self._meter = Meter()

    @property
    def progress(self) -> StepProgress:
        return self._meter.progress

    def reset(self) -> None:
        """Forget the progress of a job that was closed."""
        self._meter = Meter()

    # ------------------------------------------------------------------------------------------------------- actions
    def open(self, opening: JobOpening) -> None:
        """Open a job and show it; stage its tiles if asked to."""
        life, is_closed, is_pausing = self._thread.life, self._thread.closed_check(), self._is_pausing

        def produce() -> Iterator[Any]:
            yield Status("Reading the image…")
            opened = steps.open_job(opening.create())
            if is_closed():
                return
            life.job = opened.job
            yield opened
            yield from steps.read_tiles(opened.live, opened.unread, lambda: is_closed() or is_pausing())
            stage = self._stage(opened.job, opened.live, None) if opening.run and not is_pausing() else iter(())
            yield from steps.with_outcome(opened.job, stage)

        def receive(event: Any) -> None:
            if isinstance(event, Opened):
                self._show(event, opening)
            else:
                self.receive(event)

        self._thread.start("staging", produce, receive, self.ended)

    def resume(self, tiles: list[int] | None = None) -> None:
        """Stage the tiles that are not staged yet, or only `tiles`."""
        thread, current = self._thread, self._thread.open
        job, view = current.job, current.view
        if job is None or view is None or thread.is_busy:
            return
        view.show_live()
        unread, live = current.unread, view.live

        def produce() -> Iterator[Any]:
            yield from steps.read_tiles(live, unread, self._is_pausing)
            stage = iter(()) if self._is_pausing() else self._stage(job, live, tiles)
            yield from steps.with_outcome(job, stage)

        self._meter.begin(0 if tiles is None else len(current.failures.keys() - set(tiles)))
        thread.start("staging", produce, self.receive, self.ended)

    def pause(self) -> None:
        """Stop now. Staged tiles are kept; tiles that are running start again when the run is resumed."""
        thread = self._thread
        if thread.state != "staging":
            return
        thread.set_state("pausing")
        thread.status.emit("Pausing. Tiles that are running now start again when you resume.")
        if thread.open.job is not None:
            thread.open.job.cancel()

    def _is_pausing(self) -> bool:
        return self._thread.state == "pausing"

    def _stage(self, job: Job, live: LiveLabels, tiles: list[int] | None) -> Iterator[Any]:
        return steps.stage(job, live, tiles, self._thread.cluster.client, self._is_pausing)

    # -------------------------------------------------------------------------------------------------------- events
    def receive(self, event: Any) -> None:
        """Show an event of a staging thread."""
        thread, view = self._thread, self._thread.open.view
        if isinstance(event, Status):
            thread.status.emit(event.text)
        elif isinstance(event, TilesRead):
            if view is not None:
                view.start(event.states)
        elif isinstance(event, TileStaged | TileFailed):
            if view is not None:
                view.landed(event)
            self._advance(event.done, event.total, self.progress.failed + isinstance(event, TileFailed), new=1)
        elif isinstance(event, Heartbeat):
            self._advance(event.done, event.total, self.progress.failed)
        elif isinstance(event, StagingOutcome):
            self._show_outcome(event)

    def _show(self, opened: Opened, opening: JobOpening) -> None:
        thread, job = self._thread, opened.job
        thread.open.job, thread.open.decisions, thread.open.unread = job, opened.decisions, opened.unread
        thread.open.earlier = opened.earlier
        if self._is_pausing():
            job.cancel()
        view = JobView(self._viewer, job, opened.live, place=opening.place(job), name=opening.name, parent=self)
        thread.open.view = view
        view.live_removed.connect(self._live_removed)
        view.failed_clicked.connect(self.failed_clicked)
        view.start(opened.states)
        staged = sum(state != "failed" and bool(job.tiles.chosen[index]) for index, state in opened.states.items())
        self._advance(staged, job.n_chosen, 0)
        self._meter.begin()
        thread.changed.emit()

    def _live_removed(self) -> None:
        if self._thread.is_busy:
            text = "The labels layer was removed. The run continues, and its merge adds the layer again."
            self._thread.status.emit(text)
            self.warned.emit(text)

    def _advance(self, done: int, total: int, failed: int, new: int = 0) -> None:
        if self._meter.report(done, total, failed, new):
            self._thread.progressed.emit(self.progress)

    def _show_outcome(self, outcome: StagingOutcome) -> None:
        thread, current = self._thread, self._thread.open
        assert current.job is not None
        current.failures, current.again = outcome.failures, outcome.again
        total = current.job.n_chosen
        complete = outcome.n_staged + len(outcome.failures) >= total
        thread.state_after = "staged" if complete and not current.unread else "paused"
        if current.view is not None:
            current.view.show_failed(outcome.failures)
            # A complete map has one color: it shows nothing and tints the labels.
            current.view.tiles.visible = not complete or bool(outcome.failures)
        self._meter.end(outcome.n_staged, total, len(outcome.failures))
        thread.progressed.emit(self.progress)
        thread.status.emit(_outcome_text(outcome, total, len(current.unread)))

    def ended(self) -> None:
        """Leave the state of staging when its thread has ended."""
        thread, current = self._thread, self._thread.open
        if current.view is not None:
            current.view.stopped()
        # After an error there may be no outcome. Staged tiles are kept, and the run can be resumed.
        after = "paused" if thread.state_after == "staging" else thread.state_after
        thread.set_state("idle" if current.job is None else after)
        if thread.state == "staged" and self.progress.done:
            self.completed.emit()


def _outcome_text(outcome: StagingOutcome, total: int, unread: int) -> str:
    staged, failed = outcome.n_staged, len(outcome.failures)
    if unread:
        return f"Paused. {unread:,} of {staged:,} staged tiles are not shown yet."
    verb = "Staged" if staged + failed >= total else "Paused at"
    text = f"{verb} {staged:,} of {total:,} {'tile' if total == 1 else 'tiles'}"
    return f"{text}, {failed:,} failed" if failed else text
