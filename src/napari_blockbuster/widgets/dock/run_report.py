"""Report of a run: its state in the sections, its progress, messages in the viewer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error, show_info, show_warning

from napari_blockbuster.machine.units import count_text
from napari_blockbuster.output.result import Result
from napari_blockbuster.widgets.run.activity import Activity
from napari_blockbuster.widgets.run.control.control import RunControl
from napari_blockbuster.widgets.run.fields import free_path
from napari_blockbuster.widgets.texts import link

from .run_form import RunForm

__all__ = ["RunReport"]


class RunReport:
    """Shows the state of a `RunControl` in a form.

    Parameters
    ----------
    form : RunForm
    control : RunControl
    dashboard : callable
        Returns the address of the dask dashboard, or "".
    """

    def __init__(self, form: RunForm, control: RunControl, dashboard: Callable[[], str]) -> None:
        self._form, self._control, self._dashboard = form, control, dashboard
        self._activity = Activity(self._cancel)
        form.destroyed.connect(lambda *_: self._activity.end())
        self._state = control.state
        self._has_shown_merge = False
        control.changed.connect(self._changed)
        control.progressed.connect(self._progressed)
        control.status.connect(self.say)
        control.warned.connect(show_warning)
        control.failed.connect(self._failed)
        control.written.connect(self._written)
        control.failed_clicked.connect(form.running.show_failure)
        form.running.tile_wanted.connect(self._fly_to_tile)

    def _changed(self) -> None:
        control, form = self._control, self._form
        before, self._state = self._state, control.state
        form.running.show_state(control.state)
        form.running.show_failures(control.failures)
        if before in ("merging", "writing") and control.state != before:
            # These steps showed their own progress.
            form.running.show_progress(control.progress)
        has_labels = control.written_path is not None
        form.merging.show_state(control.state, control.merged, control.saved_note, has_labels=has_labels)
        form.set_busy(control.is_busy)
        if control.state not in ("staging", "pausing", "writing"):
            self._activity.end()
        self._reveal(before, control.state)

    def _reveal(self, before: str, now: str) -> None:
        """Open the step that a run goes to: *Run* while it stages or after failures, *Result* when it is merged."""
        running, merging = self._form.running, self._form.merging
        if now == before:
            return
        if now == "staging" or (now == "paused" and before in ("staging", "pausing")):
            self._form.path.open(running)
        if before in ("staging", "pausing") and self._control.failures:
            self._form.reveal(running.failed, running.failed.buttons)
        elif before == "merging" and not self._has_shown_merge:
            # Once for each run: afterwards the user may be busy elsewhere in the form.
            self._has_shown_merge = True
            if not self._control.failures:
                self._form.reveal(merging.write, merging.counts)
        if now == "idle":
            self._has_shown_merge = False

    def _progressed(self, progress: Any) -> None:
        self._form.running.show_progress(progress)
        job = self._control.job
        if job is not None and self._control.state == "staging":
            self._form.running.footer.show_performance(job.performance)
        if progress.total and self._control.state in ("staging", "writing"):
            self._activity.show(progress, "Blockbuster" if job is None else Path(job.spec.output).name)

    def _cancel(self) -> None:
        """Stop the step that napari's activity dock shows. Finished tiles are kept."""
        if self._control.state == "writing":
            self._control.stop_writing()
        else:
            self._control.pause()

    def say(self, text: str) -> None:
        """Show a text in the status line. While tiles run, a link to the dask dashboard follows."""
        address = self._dashboard() if self._control.state == "staging" else ""
        self._form.running.footer.say(text, link(address, "dask dashboard") if address else "")

    def _failed(self, message: str) -> None:
        running = self._form.running
        running.problem.say(message, problem=True)
        show_error(message)

    def _written(self, result: Result) -> None:
        missing = count_text(len(result.missing_tiles), "missing tile")
        gaps = f", with {missing}" if result.missing_tiles else ""
        # napari cuts long messages at the right, so the folder comes last.
        show_info(
            f"Wrote {count_text(result.n_objects, 'object')} to {result.path.name}{gaps}, in {result.path.parent}"
        )
        # The next run must not replace these labels.
        self._form.running.set_output(free_path(result.path))

    def _fly_to_tile(self, index: int) -> None:
        if self._control.view is not None:
            self._control.view.fly_to(index)
