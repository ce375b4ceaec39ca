"""Actions of the run section: run, pause, resume, start another run, discard."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from napari.utils.notifications import show_info
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QMessageBox

from napari_blockbuster.job.folder.job_folder import JobFolder
from napari_blockbuster.job.job import Job
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.widgets.choices.code_button import ask_to_run
from napari_blockbuster.widgets.choices.consent import consent
from napari_blockbuster.widgets.choices.plan import Plan
from napari_blockbuster.widgets.run.control.control import RunControl

from .fields import free_path, output_problem
from .image_offer import ImageOffer
from .section import RunSection

__all__ = ["RunActions", "RunDock"]


class RunDock(Protocol):
    """The dock that a run section belongs to."""

    control: RunControl
    running: RunSection
    image: Any
    form: Any
    is_ready: bool

    def plan(self, anew: bool = True) -> Plan: ...

    def begin(self, plan: Plan) -> None: ...

    def say(self, text: str) -> None: ...


class RunActions:
    """Connects the run section of a dock to its `RunControl`."""

    def __init__(self, dock: Any) -> None:
        self._dock: RunDock = dock
        self._control, self._section = dock.control, dock.running
        self.offer = ImageOffer(dock)
        self._is_stopping = False
        section = self._section
        section.footer.run_wanted.connect(self.run)
        section.footer.new_wanted.connect(self.new_run)
        section.footer.stop_wanted.connect(self.stop)
        self._control.changed.connect(self._stop_paused)
        section.retry_wanted.connect(self.resume)
        section.changed.connect(self.check)
        section.cluster_changed.connect(self._use_cluster)

    # ------------------------------------------------------------------------------------------------------- buttons
    def run(self) -> None:
        """Run, pause, resume, or stop writing, depending on the state."""
        control = self._control
        if control.state == "staging":
            control.pause()
        elif control.state == "writing":
            control.stop_writing()
        elif control.state == "paused" and not self._moved():
            self.resume()
        else:
            self._start(beside=False)

    def resume(self, tiles: list[int] | None = None) -> None:
        """Resume the open job, or segment only some of its tiles.

        First ask for permission to run its code, then look for its image among the layers if it is missing.
        """
        self._section.problem.say("")
        self._use_cluster()
        job = self._control.job
        code = None if job is None else consent.pending(job.model)
        if code is None:
            self._resume_with_image(tiles)
        else:
            ask_to_run(self._dock, code, lambda: self._resume_with_image(tiles))

    def _resume_with_image(self, tiles: list[int] | None) -> None:
        job = self._control.job
        if job is not None:
            # The run continues with its own settings.
            self._dock.form.show_job(job)
        if job is not None and job.source is None:
            self.offer.use(lambda: self._control.resume(tiles))
        else:
            self._control.resume(tiles)

    def new_run(self) -> None:
        """Close the open job, and start another one."""
        job = self._control.job
        if self._start(beside=True) and job is not None:
            show_info(f"The paused run is kept in {job.folder}. Use Open job… to resume it.")

    def stop(self) -> None:
        """Pause, then ask whether to keep the run or to delete its tiles."""
        if self._control.state == "staging":
            self._is_stopping = True
            self._control.pause()
        else:
            self.discard()

    def _stop_paused(self) -> None:
        if self._is_stopping and not self._control.is_busy:
            self._is_stopping = False
            if self._control.state == "paused":
                # Ask once the other listeners show the paused run.
                QTimer.singleShot(0, lambda: self.discard() if isalive(self._dock) else None)

    def discard(self) -> None:
        """Close the open job. Ask whether to delete its tiles."""
        job = self._control.job
        if job is None or self._control.is_busy:
            return
        box = QMessageBox(self._dock)
        box.setWindowTitle("Blockbuster")
        box.setText(
            f"Close this run? {len(job.staged()):,} of {count_text(job.n_chosen, 'tile')} "
            f"{'is' if job.n_chosen == 1 else 'are'} segmented, in {job.folder}."
        )
        delete = box.addButton("Delete tiles", QMessageBox.DestructiveRole)
        keep = box.addButton("Keep tiles", QMessageBox.AcceptRole)
        box.addButton(QMessageBox.Cancel)
        box.setDefaultButton(keep)
        box.exec()
        if box.clickedButton() is delete:
            self._control.discard()
        elif box.clickedButton() is keep:
            self._control.close_job()
            self._dock.say(f"The run is kept in {job.folder.name}. Use Open job… to resume it.")

    def _start(self, beside: bool) -> bool:
        """Start a run with the settings of the form.

        Parameters
        ----------
        beside : bool
            Keep the open job: if its output is that of the form, choose another one.

        Returns
        -------
        bool
            Whether the run started.
        """
        try:
            plan = self._dock.plan()
        except ValueError as error:
            self._section.problem.say(str(error), problem=True)
            return False
        job = self._control.job
        place = self._place_of_new_run(plan, job) if job is not None and (beside or plan.changes(job)) else None
        if place is not None:
            self._section.set_output(place)
            plan = self._dock.plan()
        if problem := output_problem(plan.output):
            # The open job is closed only for a run that can start.
            self._section.problem.say(problem, problem=True)
            return False
        self._section.problem.say("")
        self._dock.begin(plan)
        return True

    def _moved(self) -> bool:
        """Whether the form names another region than the open job, with the same tiles. The job takes it."""
        job = self._control.job
        try:
            plan = self._dock.plan(anew=False)
            return job is not None and job.source is not None and not plan.changes(job) and plan.moves(job)
        except ValueError:
            return False

    def _place_of_new_run(self, plan: Plan, job: Job) -> Path | None:
        """Return another output if the form names that of the open job."""
        output = Path(plan.output).absolute()
        return free_path(output, beside_jobs=True) if output == Path(job.spec.output) else None

    def _use_cluster(self) -> None:
        self._control.use_cluster(self._section.cluster())

    # ------------------------------------------------------------------------------------------------------- notices
    def check(self) -> None:
        """Show problems of the output path, and the changes since the open job was created."""
        control, section = self._control, self._section
        text = section.output.text().strip()
        problem = note = ""
        job = control.job
        # A job keeps its output. After it was written, its next merge replaces it.
        is_own = job is not None and Path(text).absolute() == Path(job.spec.output) and control.state != "written"
        if self._dock.image.source is not None and not control.is_busy and not is_own:
            problem = output_problem(text)
            if not problem and (folder := JobFolder.beside(Path(text))).is_job():
                note = f"{folder.path.name} holds a run. Run with the same settings to resume it."
        section.show_output_note(problem or note, bool(problem))
        startable = self._dock.is_ready and not problem
        is_new = control.state in ("idle", "staged", "written")
        section.main.setEnabled(startable if is_new else control.state not in ("pausing", "merging"))
        section.new.setEnabled(startable and bool(text))
        reason = self._dock.form.problem or (f"Run: {problem}" if problem else "")
        section.footer.reason.say(reason if is_new and not section.main.isEnabled() else "")
        section.change_note.say(self._changes())
        self.offer.check()

    def _changes(self) -> str:
        """Describe how the form differs from the open job, and which button starts a new one."""
        job, state = self._control.job, self._control.state
        if job is None or state not in ("paused", "staged"):
            return ""
        try:
            plan = self._dock.plan(anew=False)
            changes = plan.changes(job, details=True)
        except ValueError:
            return ""
        if not changes:
            name = "Run" if state == "staged" else "Resume"
            return f"The region changed. {name} continues with it. Staged tiles are kept." if self._moved() else ""
        place = self._place_of_new_run(plan, job) or Path(plan.output)
        text = f"Changed since this run began: {', '.join(changes)}."
        if state == "staged":
            return f"{text} Run starts a new job, {place.name}."
        return f"{text} New run starts a new job, {place.name}. Resume continues with the settings of the run."
