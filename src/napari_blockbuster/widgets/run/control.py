"""One job's life in a viewer: stage, pause, resume, merge, write, each step in a thread. What it does is `Job`'s."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_blockbuster.job.job import Heartbeat, Job, TileFailed, TileStaged
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.merge.mapping import PairOfLabels
from napari_blockbuster.output.result import Result, StagedMerge
from napari_blockbuster.stage.store import TileFailure
from napari_blockbuster.widgets.dock.plan import MergeChoice, Plan
from napari_blockbuster.widgets.layers.job_view import JobView
from napari_blockbuster.widgets.layers.live import LiveLabels

from . import steps as run_steps
from .events import Life, Merged, Meter, Opened, Progress, Read, Status, Stopped, Summary
from .runner import in_thread, stream
from .session import ClusterChoice, Session

__all__ = ["RunControl"]

Place = Callable[[Job], dict[str, Any]]


class RunControl(QObject):
    """Runs one job at a time.

    `state` is one of ``idle``, ``staging``, ``pausing``, ``paused``, ``staged``, ``merging``, ``writing``, ``written``.
    """

    changed = Signal()
    """State or merge changed."""
    progressed = Signal(object)
    """A `Progress`."""
    status = Signal(str)
    """What happens now, in words."""
    warned = Signal(str)
    """What the user should not miss; said in `status` as well."""
    failed = Signal(str)
    """Something could not be done, and why."""
    failed_clicked = Signal(int)
    """A failed tile was clicked in the viewer."""
    written = Signal(object)
    """A `napari_blockbuster.output.result.Result`."""

    def __init__(self, viewer: Any, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._session = viewer, session
        self.state = "idle"
        self.job: Job | None = None
        self.view: JobView | None = None
        self.merged: StagedMerge | None = None
        self.unfiltered: StagedMerge | None = None
        self.result: Result | None = None
        self.failures: dict[int, TileFailure] = {}
        self.again: frozenset[int] = frozenset()
        self._meter = Meter()
        self._cluster = ClusterChoice()
        self._merge = MergeChoice()
        self._merge_wanted: MergeChoice | None = None
        self.decisions: Decisions | None = None
        self._verdicts: list[Callable[[], object]] = []
        self._place: Place = lambda _: {}
        self._name = ""
        self._stop_writing = False
        self._after: str = "idle"
        self.life = life = Life()
        # This object may be gone before its threads are: what they check outlives it.
        self.destroyed.connect(lambda *_: life.end())

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        return self._meter.progress

    # ------------------------------------------------------------------------------------------------------- staging
    @property
    def is_busy(self) -> bool:
        return self.state in ("staging", "pausing", "merging", "writing")

    def start(self, plan: Plan, place: dict[str, Any], name: str) -> None:
        """Make the plan's job, or continue it, and stage its tiles."""
        self._open(plan.create_job, lambda _: place, name, plan.cluster, plan.merge, run=True)

    def open(self, make: Callable[[], Job], place: Place, name: str, cluster: ClusterChoice) -> None:
        """Show a job from its folder: its layers, its tiles, its merge. It runs on when `resume` is called.

        Parameters
        ----------
        make : callable
            Opens the job; called in a thread.
        place : callable
            Says where its layers belong, once the job is open; called in the GUI thread.
        """
        self._open(make, place, name, cluster, MergeChoice(), run=False)

    def _open(
        self,
        make: Callable[[], Job],
        place: Place,
        name: str,
        cluster: ClusterChoice,
        merge: MergeChoice,
        run: bool,
    ) -> None:
        self.close_job()
        self._cluster, self._merge, self._place, self._name = cluster, merge, place, name
        life, generation = self.life, self.life.generation

        def produce() -> Iterator[Any]:
            yield Status("Reading the image…")
            opened = run_steps.read_job(make())
            if life.generation != generation:
                return
            life.job = opened.job
            yield opened
            yield from run_steps.read_tiles(opened, lambda: life.generation != generation)
            steps = self._stage(opened.job, opened.live, None) if run else iter(())
            yield from run_steps.with_summary(opened.job, steps)

        self._launch("staging", produce, self._staging_ended)

    def resume(self, tiles: list[int] | None = None) -> None:
        """Stage the tiles that are not staged yet, or only `tiles`."""
        job, view = self.job, self.view
        if job is None or view is None or self.is_busy:
            return
        live = view.live
        view.show_live()

        def produce() -> Iterator[Any]:
            yield from run_steps.with_summary(job, self._stage(job, live, tiles))

        self._meter.begin(0 if tiles is None else len(self.failures.keys() - set(tiles)))
        self._launch("staging", produce, self._staging_ended)

    def _stage(self, job: Job, live: LiveLabels, tiles: list[int] | None) -> Iterator[Any]:
        return run_steps.stage(job, live, tiles, self.client, lambda: self.state == "pausing")

    def pause(self) -> None:
        """Stop after the tiles that run now. What is staged stays, and `resume` goes on from there."""
        if self.state != "staging":
            return
        self._set("pausing")
        self.status.emit("Pausing: the tiles that run now are dropped")
        if self.job is not None:
            self.job.cancel()

    def _receive(self, event: Any) -> None:
        if isinstance(event, Opened):
            self._show(event)
        elif isinstance(event, Status):
            self.status.emit(event.text)
        elif isinstance(event, Read):
            if self.view is not None:
                self.view.start(event.states)
        elif isinstance(event, TileStaged | TileFailed):
            if self.view is not None:
                self.view.landed(event)
            self._advance(event.done, event.total, self.progress.failed + isinstance(event, TileFailed), new=1)
        elif isinstance(event, Heartbeat):
            self._advance(event.done, event.total, self.progress.failed)
        elif isinstance(event, Summary):
            self._summarise(event)
        elif isinstance(event, Merged):
            self._show_merge(event)
        elif isinstance(event, Result):
            self._on_written(event)

    def _show(self, opened: Opened) -> None:
        self.job, self.decisions = opened.job, opened.decisions
        if self.state == "pausing":
            self.job.cancel()
        self.view = JobView(self._viewer, opened.job, opened.live, self._place(opened.job), self._name, self)
        self.view.live_removed.connect(self._live_removed)
        self.view.failed_clicked.connect(self.failed_clicked)
        self.view.start(opened.states)
        failed = sum(state == "failed" for state in opened.states.values())
        self._advance(len(opened.states) - failed, opened.job.n_tiles, 0)
        self._meter.begin()
        self.changed.emit()

    def _live_removed(self) -> None:
        if self.is_busy:
            text = "The labels layer was removed; the run goes on, and its merge brings them back."
            self.status.emit(text)
            self.warned.emit(text)

    def _advance(self, done: int, total: int, failed: int, new: int = 0) -> None:
        if self._meter.report(done, total, failed, new):
            self.progressed.emit(self.progress)

    def _summarise(self, summary: Summary) -> None:
        assert self.job is not None
        self.failures, self.again = summary.failures, summary.again
        complete = summary.n_staged + len(summary.failures) >= self.job.n_tiles
        self._after = "staged" if complete else "paused"
        if self.view is not None:
            self.view.show_failed(summary.failures)
            # A map of one colour tells nothing any more, and tints the labels.
            self.view.tiles.visible = not complete or bool(summary.failures)
        self._advance(summary.n_staged, self.job.n_tiles, len(summary.failures))
        self.status.emit(f"{'Staged' if complete else 'Paused at'} {summary.n_staged} of {self.job.n_tiles} tiles")

    def _staging_ended(self) -> None:
        if self.view is not None:
            self.view.stopped()
        # After an error there may be no summary. What is staged is kept, and the run can be resumed.
        self._set("idle" if self.job is None else self._after if self._after != "staging" else "paused")
        if self.state == "staged" and self.progress.done:
            self.merge(self._merge)

    # ------------------------------------------------------------------------------------------------------- merging
    def merge(self, choice: MergeChoice) -> None:
        """Decide which labels are one object, and show it; of choices that come while one is made, the last is made next."""
        self._merge = choice
        if self.job is None or self.state in ("staging", "pausing", "writing"):
            return
        if self.state == "merging":
            self._merge_wanted = choice
            if not choice.filter.fill_holes:
                # The merge that is made now may be looking for holes.
                self.job.cancel()
            return
        job, view, decisions = self.job, self.view, self.decisions
        self._merge_wanted = None
        if view is not None:
            view.show_live()
        verdicts, self._verdicts = self._verdicts, []
        live, tell = None if view is None else view.live, self._step_progress()

        def produce() -> Iterator[Merged]:
            return run_steps.merge(job, live, choice, decisions, verdicts, self.client, tell, self.status.emit)

        before = self.state
        self._launch("merging", produce, lambda: self._merging_ended(before))

    def decide(self, pairs: Sequence[PairOfLabels], verdict: str | None) -> None:
        """Give a verdict on pairs ("join", "cut"; None leaves them to the rule); kept in the job folder, merged at once."""
        self._with_decisions(lambda decisions: decisions.set(pairs, verdict))

    def undo(self) -> None:
        """Take back the last verdict."""
        self._with_decisions(lambda decisions: decisions.undo())

    def redo(self) -> None:
        """Give the verdict again that was taken back."""
        self._with_decisions(lambda decisions: decisions.redo())

    def _with_decisions(self, change: Callable[[Decisions], object]) -> None:
        decisions = self.decisions
        if decisions is not None and self.state in ("paused", "staged", "merging", "written"):
            # Written in the thread that merges, one after the other.
            self._verdicts.append(lambda: change(decisions))
            self.merge(self._merge)

    def _show_merge(self, event: Merged) -> None:
        self.merged, self.unfiltered = event.kept, event.unfiltered
        if self.view is not None:
            self.view.changed()
            self.view.refresh()
        self.status.emit(f"{self.merged.n_objects:,} objects from {self.merged.n_labels:,} labels")

    def _merging_ended(self, before: str) -> None:
        self._set(before)
        if self._merge_wanted is not None or self._verdicts:
            self.merge(self._merge_wanted or self._merge)

    # ------------------------------------------------------------------------------------------------------- writing
    def write(self, overwrite: bool = False) -> None:
        """Write the merged labels, and show them, read lazily, in place of the live layer."""
        job, merged = self.job, self.merged
        if job is None or merged is None or self.is_busy:
            return
        before, tell = self.state, self._step_progress()

        def call() -> Result:
            return job.write(merged, self.client(), overwrite=overwrite, keep_stage=True, progress=tell)

        self.status.emit("Writing merged labels")
        self._launch("writing", lambda: iter([call()]), lambda: self._set("written" if self.result else before))

    def _step_progress(self) -> Callable[[int, int], None]:
        """Tells how far a step of the job that is open now is; stops it when that is wanted or the job is let go of."""
        life, generation = self.life, self.life.generation

        def tell(done: int, total: int) -> None:
            # In the thread of the step. A signal is delivered in the GUI thread.
            if life.generation != generation or self._stop_writing:
                raise Stopped
            self.progressed.emit(Progress(done, total))

        return tell

    def stop_writing(self) -> None:
        """Give up writing; what was written so far is thrown away, the tiles stay."""
        self._stop_writing = True

    def _on_written(self, result: Result) -> None:
        self.result = result
        if self.view is not None:
            self.view.show_result(result.path)
        self.status.emit(f"{result.n_objects:,} objects in {result.path}")
        self.written.emit(result)

    def discard(self) -> None:
        """Delete the job that is open, and let go of it; what it wrote stays."""
        job = self.job
        if job is None or self.is_busy:
            return
        self.close_job()
        text = f"The tiles in {job.folder.name} are deleted"
        in_thread(job.files.delete, lambda _: self.status.emit(text), self._report, owner=self)

    def delete_stage(self) -> None:
        """Delete the staged tiles of a job that is written; its labels can then not be merged anew."""
        job = self.job
        if job is not None and self.state == "written":
            in_thread(job.store.delete, lambda _: self._stage_deleted(job), self._report, owner=self)

    def _stage_deleted(self, job: Job) -> None:
        # Nothing more can be done with the job: its written labels stay as an ordinary layer.
        if self.job is job:
            self.close_job()
        self.status.emit("Staged tiles deleted")

    # ------------------------------------------------------------------------------------------------------- leaving
    def close_job(self) -> None:
        """Let go of the job; it can be opened again from its folder."""
        self.life.end()
        if self.view is not None:
            self.view.close(keep=self.state == "written")
        self.job = self.view = self.merged = self.unfiltered = self.result = self.decisions = None
        self._verdicts = []
        self.failures, self.again = {}, frozenset()
        self._meter = Meter()
        self._set("idle")

    def use_cluster(self, choice: ClusterChoice) -> None:
        """Run the next steps elsewhere; one that runs now stays where it is."""
        self._cluster = choice

    def client(self) -> Any:
        """The cluster that tiles run on; started now if need be. For a thread."""
        return self._session.client(self._cluster)

    def launch(
        self,
        state: str,
        produce: Callable[[], Iterator[Any]],
        on_event: Callable[[Any], None] | None = None,
    ) -> None:
        """Run a step of another controller on the job that is open; afterwards the state is what it was, or what a
        summary at its end says. Events that are not the run's own go to `on_event`.
        """
        before = self.state

        def receive(event: Any) -> None:
            if isinstance(event, Status | Summary) or on_event is None:
                self._receive(event)
            else:
                on_event(event)

        def done() -> None:
            if self._after == state:
                self._set("paused" if before == "paused" else "staged")
            else:
                self._staging_ended()

        self._launch(state, produce, done, receive)

    def _launch(
        self,
        state: str,
        produce: Callable[[], Iterator[Any]],
        on_done: Callable[[], None],
        on_event: Callable[[Any], None] | None = None,
    ) -> None:
        """Run a step in a thread. What it says is heard only while its job is open."""
        life, generation = self.life, self.life.generation

        def heard(call: Callable[..., None]) -> Callable[..., None]:
            return lambda *args: call(*args) if life.generation == generation else None

        self._after, self._stop_writing = state, False
        self._set(state)
        stream(produce, heard(on_event or self._receive), heard(on_done), heard(self._report), self)

    def _report(self, error: Exception) -> None:
        if isinstance(error, Stopped):
            self.status.emit("Writing stopped; the tiles are kept")
            return
        if self._after == self.state:
            # No summary came: the status still says what was being done.
            self.status.emit("Stopped by an error")
        self.failed.emit(str(error) or type(error).__name__)

    def _set(self, state: str) -> None:
        if state != self.state:
            self.life.spare_viewer(state == "staging")
        self.state = state
        self.changed.emit()
