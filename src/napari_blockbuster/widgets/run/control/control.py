"""Control of the job that is open in a viewer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_blockbuster.job.job import Job
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.output.result import Result, StagedMerge
from napari_blockbuster.stage.store import TileFailure
from napari_blockbuster.widgets.choices.plan import MergeChoice, Plan
from napari_blockbuster.widgets.layers.of_job.job_view import JobView
from napari_blockbuster.widgets.session import ClusterChoice, Session, SessionCluster

from .events import RunLifetime, StagingOutcome, Status, StepProgress
from .merging import Merging
from .open_job import StepThread
from .staging import JobOpening, Staging
from .writing import Writing

__all__ = ["RunControl"]


class RunControl(QObject):
    """Runs one job at a time: stages, merges and writes it. For states see `StepThread`."""

    changed = Signal()
    """State or merge changed."""
    progressed = Signal(object)
    """A `StepProgress`."""
    status = Signal(str)
    """Text for the status line."""
    warned = Signal(str)
    """Warning that is shown besides the status line."""
    failed = Signal(str)
    """A step failed, and why."""
    failed_clicked = Signal(int)
    """A failed tile was clicked in the viewer."""
    ranges_wanted = Signal(object)
    """Leave out the objects outside these ranges of columns: a dictionary, or None to undo the last one."""
    written = Signal(object)
    """A `napari_blockbuster.output.result.Result`."""

    def __init__(self, viewer: Any, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._thread = thread = StepThread(SessionCluster(session), self)
        self._staging = staging = Staging(viewer, thread, self)
        self._merging = Merging(thread, staging.receive)
        self._writing = writing = Writing(thread, self)
        thread.changed.connect(self.changed)
        thread.progressed.connect(self.progressed)
        thread.status.connect(self.status)
        thread.failed.connect(self.failed)
        staging.warned.connect(self.warned)
        staging.failed_clicked.connect(self.failed_clicked)
        staging.completed.connect(lambda: self._merging.merge(self._merging.choice))
        writing.written.connect(self.written)
        writing.closing.connect(self.close_job)

    # ----------------------------------------------------------------------------------------------------- open job
    @property
    def state(self) -> str:
        return self._thread.state

    @property
    def is_busy(self) -> bool:
        """Whether a step runs."""
        return self._thread.is_busy

    @property
    def job(self) -> Job | None:
        return self._thread.open.job

    @property
    def view(self) -> JobView | None:
        """Layers of the job."""
        return self._thread.open.view

    @property
    def decisions(self) -> Decisions | None:
        return self._thread.open.decisions

    @property
    def merged(self) -> StagedMerge | None:
        """The current merge, after its object filter."""
        return self._thread.open.merged

    @property
    def unfiltered(self) -> StagedMerge | None:
        """The current merge, before its object filter."""
        return self._thread.open.unfiltered

    @property
    def result(self) -> Result | None:
        """The written labels."""
        return self._thread.open.result

    @property
    def saved_note(self) -> str:
        """Whether the current merge is written, as a sentence; "" without a job."""
        return self._thread.open.saved_note

    @property
    def written_path(self) -> Path | None:
        """Path of the labels that the open job wrote, now or before; None if there are none."""
        return self._thread.open.written_path

    @property
    def failures(self) -> dict[int, TileFailure]:
        return self._thread.open.failures

    @property
    def again(self) -> frozenset[int]:
        """Tiles that were segmented again."""
        return self._thread.open.again

    @property
    def progress(self) -> StepProgress:
        """Progress of staging."""
        return self._staging.progress

    @property
    def life(self) -> RunLifetime:
        return self._thread.life

    # ------------------------------------------------------------------------------------------------------- staging
    def start(self, plan: Plan, place: dict[str, Any], name: str) -> None:
        """Create the job of a plan, or reopen it, and stage its tiles."""
        self._open(JobOpening(plan.create_job, lambda _: place, name, run=True), plan.cluster, plan.merge)

    def open(
        self, create: Callable[[], Job], place: Callable[[Job], dict[str, Any]], name: str, cluster: ClusterChoice
    ) -> None:
        """Open a job from its folder and show it. `resume` stages the tiles that are missing. See `JobOpening`."""
        self._open(JobOpening(create, place, name, run=False), cluster, MergeChoice())

    def _open(self, opening: JobOpening, cluster: ClusterChoice, merge: MergeChoice) -> None:
        self.close_job()
        self.use_cluster(cluster)
        self._merging.choice = merge
        self._staging.open(opening)

    def resume(self, tiles: list[int] | None = None) -> None:
        """Stage the tiles that are not staged yet, or only `tiles`."""
        self._staging.resume(tiles)

    def pause(self) -> None:
        """Stop staging. Staged tiles are kept, and `resume` stages the others."""
        self._staging.pause()

    # ------------------------------------------------------------------------------------------------------- merging
    def merge(self, choice: MergeChoice) -> None:
        """Merge and show the result. While a merge runs, only the latest choice is merged next."""
        self._merging.merge(choice)

    def decide(self, pairs: Sequence[PairOfLabels], decision: str | None) -> None:
        """Decide on pairs ("join", "cut"; None leaves them to the merge rule), save the decision, and merge."""
        self._merging.decide(pairs, decision)

    def remove(self, labels: Sequence[tuple[int, int]]) -> None:
        """Make labels of tiles background, save that, and merge."""
        self._merging.remove(labels)

    def undo(self) -> None:
        """Undo the last decision."""
        self._merging.undo()

    def redo(self) -> None:
        """Redo the decision that was undone last."""
        self._merging.redo()

    # ------------------------------------------------------------------------------------------------------- writing
    def write(self, overwrite: bool = False) -> None:
        """Write the merged labels, and show the written labels in place of the live layer."""
        self._writing.write(overwrite)

    def stop_writing(self) -> None:
        """Stop writing. The incomplete output is deleted; the tiles are kept."""
        self._writing.stop()

    def discard(self) -> None:
        """Delete and close the job. Written labels are kept."""
        self._writing.delete_job()

    def delete_stage(self) -> None:
        """Delete the tiles of a job whose labels are written. The labels can then not be merged again."""
        self._writing.delete_tiles()

    def close_job(self) -> None:
        """Close the job. It can be opened again from its folder."""
        self._merging.reset()
        self._staging.reset()
        self._thread.close()

    # ------------------------------------------------------------------------------------------------------- cluster
    def use_cluster(self, choice: ClusterChoice) -> None:
        """Run the next steps on another cluster. The current step stays where it is."""
        self._thread.cluster.choice = choice

    def warm_up(self, choice: ClusterChoice) -> None:
        """Start a cluster of this machine before it is needed."""
        self._thread.cluster.session.warm_up(choice)

    def client(self) -> Any:
        """Return a client of the cluster, after starting it if needed. For a thread."""
        return self._thread.cluster.client()

    def launch(
        self,
        state: str,
        produce: Callable[[], Iterator[Any]],
        on_event: Callable[[Any], None] | None = None,
    ) -> None:
        """Run a step of another controller on the open job.

        Parameters
        ----------
        state : str
            State during the step. Afterwards the state is the previous one, unless the step yields a `StagingOutcome`.
        produce : callable
            Return the generator of the step. Called in a thread.
        on_event : callable, optional
            Receives all events except `Status` and `StagingOutcome`.
        """
        thread, staging = self._thread, self._staging
        before = thread.state

        def receive(event: Any) -> None:
            if isinstance(event, Status | StagingOutcome) or on_event is None:
                staging.receive(event)
            else:
                on_event(event)

        def done() -> None:
            if thread.state_after == state:
                thread.set_state("paused" if before == "paused" else "staged")
            else:
                staging.ended()

        thread.start(state, produce, receive, done)
