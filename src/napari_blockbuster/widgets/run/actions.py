"""What the buttons of the run section do: run, pause, resume, start another run, leave one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QMessageBox

from napari_blockbuster.job.folder import JobFolder
from napari_blockbuster.job.job import Job
from napari_blockbuster.widgets.dock.code_button import ask_to_run
from napari_blockbuster.widgets.dock.consent import consent
from napari_blockbuster.widgets.dock.missing_image import ImageOffer
from napari_blockbuster.widgets.dock.plan import Plan

from .section import free_path

if TYPE_CHECKING:
    from napari_blockbuster.widgets.dock.dock import SegmentWidget

__all__ = ["RunActions"]


class RunActions:
    """Serves one dock."""

    def __init__(self, dock: SegmentWidget) -> None:
        self._dock, self._control, self._section = dock, dock.control, dock.running
        self.offer = ImageOffer(dock)
        section = self._section
        section.run_wanted.connect(self.run)
        section.new_wanted.connect(self.new_run)
        section.discard_wanted.connect(self.discard)
        section.retry_wanted.connect(self.resume)
        section.changed.connect(self.check)
        section.cluster_changed.connect(self._use_cluster)

    # ------------------------------------------------------------------------------------------------------- buttons
    def run(self) -> None:
        """Run, pause, resume, or stop writing, as the main button says."""
        control = self._control
        if control.state == "staging":
            control.pause()
        elif control.state == "writing":
            control.stop_writing()
        elif control.state == "paused":
            self.resume()
        else:
            self._start(beside=False)

    def resume(self, tiles: list[int] | None = None) -> None:
        """Continue the job that is open, or run only some of its tiles.

        Code that the user has not allowed is asked about first, and a missing image is looked for among the layers.
        """
        self._section.problem.say("")
        self._use_cluster()
        job = self._control.job
        code = None if job is None else consent.pending(job.model)
        if code is None:
            self._continue(tiles)
        else:
            ask_to_run(self._dock, code, lambda: self._continue(tiles))

    def _continue(self, tiles: list[int] | None) -> None:
        if self._control.job is not None and self._control.job.source is None:
            self.offer.use(lambda: self._control.resume(tiles))
        else:
            self._control.resume(tiles)

    def new_run(self) -> None:
        """Leave the job that is open as it is, and start another one."""
        job = self._control.job
        if self._start(beside=True) and job is not None:
            show_info(f"The paused run stays in {job.folder}. Open job… restores it.")

    def discard(self) -> None:
        """Leave the job that is open; ask whether its tiles are deleted."""
        job = self._control.job
        if job is None or self._control.is_busy:
            return
        box = QMessageBox(self._dock)
        box.setWindowTitle("Blockbuster")
        box.setText(f"Leave this run? {len(job.staged()):,} of {job.n_tiles:,} tiles are segmented, in {job.folder}.")
        delete = box.addButton("Delete tiles", QMessageBox.DestructiveRole)
        keep = box.addButton("Keep tiles", QMessageBox.AcceptRole)
        box.addButton(QMessageBox.Cancel)
        box.setDefaultButton(keep)
        box.exec()
        if box.clickedButton() is delete:
            self._control.discard()
        elif box.clickedButton() is keep:
            self._control.close_job()
            self._dock.say(f"The run stays in {job.folder.name}. Open job… restores it.")

    def _start(self, beside: bool) -> bool:
        """Start the run of the form; whether it could be. `beside`: not at the place of the job that is open."""
        try:
            plan = self._dock.plan()
            if not plan.output:
                raise ValueError("say where the labels go")
        except ValueError as error:
            self._section.problem.say(str(error), problem=True)
            return False
        job = self._control.job
        place = self._place_of_new_run(plan, job) if job is not None and (beside or plan.changes(job)) else None
        if place is not None:
            self._section.set_output(place)
            plan = self._dock.plan()
        self._section.problem.say("")
        self._dock.begin(plan)
        return True

    def _place_of_new_run(self, plan: Plan, job: Job) -> Path | None:
        """Where a new run goes if not to the output of the form, at which the job that is open is."""
        output = Path(plan.output).absolute()
        return free_path(output, beside_jobs=True) if output == Path(job.spec.output) else None

    def _use_cluster(self) -> None:
        self._control.use_cluster(self._section.cluster())

    # ------------------------------------------------------------------------------------------------------- notices
    def check(self) -> None:
        """Say at once, beside the field, what would be refused later; and what a changed form means for the run."""
        control, section = self._control, self._section
        text = section.output.text().strip()
        problem = note = ""
        if self._dock.image.source is not None and control.state in ("idle", "written"):
            if not text:
                problem = "Say where the labels go."
            elif Path(text).exists():
                problem = f"{Path(text).name} exists already and stays as it is: choose another name."
            elif (folder := JobFolder.beside(Path(text))).is_job():
                note = f"{folder.path.name} holds a run. The same settings continue it."
        section.output_note.say(problem or note, problem=bool(problem))
        startable = self._dock.is_ready and not problem
        section.main.setEnabled((startable or control.job is not None) and control.state not in ("pausing", "merging"))
        section.new.setEnabled(self._dock.is_ready and bool(text))
        section.change_note.say(self._changes())
        self.offer.check()

    def _changes(self) -> str:
        """Say that the form is no longer that of the job which is open, and what starts a job of its own."""
        job, state = self._control.job, self._control.state
        if job is None or state not in ("paused", "staged"):
            return ""
        try:
            plan = self._dock.plan(anew=False)
            changes = plan.changes(job)
        except ValueError:
            return ""
        if not changes:
            return ""
        place = self._place_of_new_run(plan, job) or Path(plan.output)
        what = f"Changed since this run began: {', '.join(changes)}."
        if state == "staged":
            return f"{what} Run starts a new job, {place.name}."
        return f"{what} New run starts a new job, {place.name}. Resume continues with the settings of the run."
