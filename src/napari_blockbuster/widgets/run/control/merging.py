"""Merge the labels of a job, and keep decisions on pairs of labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from napari_blockbuster.machine.units import count_text
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.widgets.choices.plan import MergeChoice

from . import steps
from .events import Merged
from .open_job import StepThread

__all__ = ["Merging"]


class Merging:
    """Merges the job of a `StepThread`.

    Parameters
    ----------
    thread : StepThread
    on_tiles : callable
        Receives events about tiles that are read before the merge.
    """

    def __init__(self, thread: StepThread, on_tiles: Callable[[Any], None]) -> None:
        self._thread, self._on_tiles = thread, on_tiles
        self.choice = MergeChoice()
        self._next: MergeChoice | None = None
        self._changes: list[Callable[[], object]] = []

    def reset(self) -> None:
        """Forget the merge and the decisions that had to wait when their job was closed."""
        self._next, self._changes = None, []

    def merge(self, choice: MergeChoice) -> None:
        """Merge and show the result. While a merge runs, only the latest choice is merged next."""
        self.choice = choice
        thread, current = self._thread, self._thread.open
        job, view = current.job, current.view
        if job is None or view is None or thread.state in ("staging", "pausing", "writing"):
            return
        if thread.state == "merging":
            self._next = choice
            if not choice.filter.fill_holes:
                # The current merge may be searching for holes.
                job.cancel()
            return
        self._next = None
        view.show_live()
        changes, self._changes = self._changes, []
        step = steps.MergeStep(
            job=job,
            live=view.live,
            unread=current.unread,
            choice=choice,
            decisions=current.decisions,
            changes=changes,
            client=thread.cluster.client,
            progress=thread.progress_callback(),
            say=thread.status.emit,
            is_closed=thread.closed_check(),
        )
        before = thread.state
        thread.start("merging", step.run, self._receive, lambda: self._ended(before))

    def decide(self, pairs: Sequence[PairOfLabels], decision: str | None) -> None:
        """Decide on pairs, save the decision in the job folder, and merge.

        Parameters
        ----------
        pairs : sequence of ((tile, id), (tile, id))
        decision : {"join", "cut"} or None
            None leaves the pairs to the merge rule.
        """
        self._change(lambda decisions: decisions.set(pairs, decision))

    def remove(self, labels: Sequence[tuple[int, int]]) -> None:
        """Make labels of tiles background, save that, and merge."""
        self._change(lambda decisions: decisions.remove(labels))

    def undo(self) -> None:
        """Undo the last decision."""
        self._change(lambda decisions: decisions.undo())

    def redo(self) -> None:
        """Redo the decision that was undone last."""
        self._change(lambda decisions: decisions.redo())

    def _change(self, change: Callable[[Decisions], object]) -> None:
        decisions = self._thread.open.decisions
        if decisions is not None and self._thread.state in ("paused", "staged", "merging", "written"):
            # The thread that merges saves them one after the other.
            self._changes.append(lambda: change(decisions))
            self.merge(self.choice)

    def _receive(self, event: Any) -> None:
        thread, current = self._thread, self._thread.open
        if not isinstance(event, Merged):
            self._on_tiles(event)
            return
        current.merged, current.unfiltered = event.kept, event.unfiltered
        if current.view is not None:
            current.view.changed()
            current.view.refresh()
        unwritten = "" if current.written_path is not None else ". Not written yet"
        failed = ""
        if current.job is not None and current.failures:
            failed = f"; {len(current.failures):,} of {count_text(current.job.n_tiles, 'tile')} failed"
        thread.status.emit(
            f"{count_text(event.kept.n_objects, 'object')} from {count_text(event.kept.n_labels, 'label')}"
            f"{failed}{unwritten}"
        )

    def _ended(self, before: str) -> None:
        self._thread.set_state(before)
        if self._next is not None or self._changes:
            self.merge(self._next or self.choice)
