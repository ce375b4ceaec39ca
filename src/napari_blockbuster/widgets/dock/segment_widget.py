"""Widget of the dock: the form, the run, and their wiring."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QApplication, QVBoxLayout, QWidget

from napari_blockbuster.job.shell import command
from napari_blockbuster.widgets.choices.image_section import ImageSection
from napari_blockbuster.widgets.choices.model_section import ModelSection
from napari_blockbuster.widgets.choices.plan import IN_MEMORY, Plan
from napari_blockbuster.widgets.choices.tiles_section import TilesSection
from napari_blockbuster.widgets.inspector.inspector import SeamInspector
from napari_blockbuster.widgets.inspector.seam_actions import SeamActions
from napari_blockbuster.widgets.layers.of_image import layer_images
from napari_blockbuster.widgets.layers.of_image.wishes import TILE
from napari_blockbuster.widgets.preview.control import PreviewControl
from napari_blockbuster.widgets.preview.section import PreviewSection
from napari_blockbuster.widgets.run.actions import RunActions
from napari_blockbuster.widgets.run.control.control import RunControl
from napari_blockbuster.widgets.run.fields import output_for
from napari_blockbuster.widgets.run.jobs import JobList
from napari_blockbuster.widgets.run.merge_section import MergeSection
from napari_blockbuster.widgets.run.section import RunSection
from napari_blockbuster.widgets.session import Session
from napari_blockbuster.widgets.table.opening import show_table

from .job_opener import JobOpener
from .keyboard import KeyboardWidget, WheelGuard
from .merge_actions import MergeActions
from .preview_actions import PreviewActions
from .run_form import RunForm
from .run_report import RunReport
from .tools import tools
from .tour import Tour

__all__ = ["SegmentWidget"]


class Actions(NamedTuple):
    """What buttons of the form do."""

    run: RunActions
    preview: PreviewActions
    merge: MergeActions


class SegmentWidget(KeyboardWidget):
    """Segment a large image: choose image and model, preview one tile, run, merge, write.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer = napari_viewer
        session = Session()
        self.form = form = RunForm(viewer)
        self.control = control = RunControl(viewer, session, self)
        self.previews = PreviewControl(viewer, session, self)
        self.seams = SeamActions(viewer, control, form.merging, form.reloaded_model)
        self.report = RunReport(form, control, lambda: session.dashboard_link)
        self.jobs = JobList(control)
        self.tour = Tour(self)
        self._opener = JobOpener(viewer, form, control)
        previewing = PreviewActions(viewer, form, self.previews)
        self._actions = Actions(RunActions(self), previewing, MergeActions(form.merging, control, self))
        self.was_docked = False
        life = control.life

        def leave(*_: Any) -> None:
            # The widget is deleted: touch only what it left running.
            life.end()
            session.close_soon()

        self._leave = leave
        self._lay_out()
        self._wire()

    def _lay_out(self) -> None:
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        outer.addWidget(self.form, 1)
        outer.addWidget(self.jobs)
        outer.addWidget(self.running.footer)
        outer.addWidget(tools(self.ask_job, self.copy_script, self.tour.start))
        self.setMinimumWidth(330)
        WheelGuard(self)

    def _wire(self) -> None:
        self.destroyed.connect(self._leave)
        self.viewer.bind_key("t", lambda _: self.preview_tile(self.viewer.cursor.position), overwrite=True)
        self.seams.bind_keys()
        self.jobs.wanted.connect(self.open_job)
        self.image.sample_wanted.connect(self.choose_sample)
        merging = self.merging
        merging.seams_wanted.connect(self.seams.show)
        merging.step_wanted.connect(self.seams.step)
        merging.inspect_wanted.connect(self.inspect)
        merging.table_wanted.connect(lambda: show_table(self.viewer))
        self.control.changed.connect(self._control_changed)
        for found in (self.previews.tile_found, self.previews.seam_found):
            found.connect(lambda *_: self._show_labels(False))
        merging.changed.connect(lambda: self._show_labels(True))
        self.previews.tile_found.connect(self.form.where.show_tile)
        self.form.changed.connect(self._form_changed)
        self._form_changed()

    # ----------------------------------------------------------------------------------------------------- sections
    @property
    def image(self) -> ImageSection:
        """Image section."""
        return self.form.image

    @property
    def model(self) -> ModelSection:
        """Model section."""
        return self.form.model

    @property
    def tiles(self) -> TilesSection:
        """Tiles section."""
        return self.form.tiles

    @property
    def preview(self) -> PreviewSection:
        """Preview section."""
        return self.form.preview

    @property
    def running(self) -> RunSection:
        """Run section."""
        return self.form.running

    @property
    def merging(self) -> MergeSection:
        """Merge section."""
        return self.form.merging

    @property
    def is_ready(self) -> bool:
        """Whether image, model and tiles are valid."""
        return self.form.is_ready

    def say(self, text: str) -> None:
        """Show a text in the status line."""
        self.report.say(text)

    # ------------------------------------------------------------------------------------------------------- wiring
    def _form_changed(self) -> None:
        source, job = self.image.source, self.control.job
        # A job without its image keeps its output.
        is_other = job is None or (
            job.source is not None and source is not None and not layer_images.same_image(job.source, source)
        )
        if source is not None and is_other and not self.control.is_busy:
            self.running.suggest_output(output_for(source))
        self._actions.run.check()
        # The mouse may have been here before the image, for example on the button of the sample.
        if self.underMouse():
            self._warm_up()

    def _control_changed(self) -> None:
        if self.control.state == "staged" and self.merging.seams.isChecked():
            self.seams.show(True)
        self._actions.run.check()

    def _show_labels(self, on: bool) -> None:
        """Show the labels of the run, or hide them under a preview, so that one set of labels is on the screen."""
        view = self.control.view
        if view is None or view.labels is None:
            return
        if on:
            self.previews.hide()
        view.labels.visible = on

    def enterEvent(self, event: Any) -> None:
        """Start the workers when the mouse comes to a dock that is ready, so that the first preview need not wait for them."""
        super().enterEvent(event)
        self._warm_up()

    def _warm_up(self) -> None:
        if self.is_ready and not self.control.is_busy:
            self.control.warm_up(self.running.cluster())

    # ------------------------------------------------------------------------------------------- closing and opening
    def showEvent(self, event: Any) -> None:
        """Stop everything when the viewer's window closes, also if this widget is in no dock by then."""
        super().showEvent(event)
        # The form knows its width once it is shown.
        self.setMinimumWidth(max(self.form.minimumWidth(), self.running.footer.minimumSizeHint().width()))
        top: QWidget = self
        while top.parentWidget() is not None:
            top = top.parentWidget()
        if not self.was_docked and top is not self:
            self.was_docked = True
            top.destroyed.connect(self._leave)
            top.destroyed.connect(self.deleteLater)

    def changeEvent(self, event: QEvent) -> None:
        """Report that a run continues when its dock is closed."""
        super().changeEvent(event)
        if event.type() == QEvent.ParentChange and self.parent() is None:
            # Check later: a widget that moves between docks has no parent for a moment.
            QTimer.singleShot(0, self._report_closed)

    def _report_closed(self) -> None:
        if self.parent() is None and self.control.is_busy:
            show_info("The run continues. To show it again: Plugins → Blockbuster → Segment large image.")

    # ------------------------------------------------------------------------------------------------------ actions
    def plan(self, anew: bool = True) -> Plan:
        """Return the run that the form describes (see `RunForm.plan`)."""
        return self.form.plan(anew)

    def place(self) -> dict[str, Any]:
        """Return the place of the chosen image."""
        return self.form.place()

    def preview_tile(self, world: Any = None) -> None:
        """Preview the tile at world coordinates, or in the center of the view."""
        self._actions.preview.preview_tile(world)

    def choose_sample(self) -> bool:
        """Open the sample image of nuclei, or choose its layer if it is open; returns whether there is one."""
        layer = next((each for each in self.viewer.layers if each.metadata.get(TILE) and each.name == "nuclei"), None)
        if layer is None:
            try:
                (layer,) = self.viewer.open_sample("napari-blockbuster", "nuclei")
            except (RuntimeError, KeyError) as error:
                self.image.note.say(str(error), problem=True)
                return False
        self.image.choice.value = layer
        return True

    def begin(self, plan: Plan) -> None:
        """Start a run in place of the job that is open."""
        self.previews.cancel()
        self.previews.clear()
        # Written labels stay in the viewer. Under those of the next run they would look like its labels.
        if self.control.view is not None and self.control.view.labels is not None:
            self.control.view.labels.visible = False
        assert self.image.layer is not None
        self.control.start(plan, self.place(), f"{self.image.layer.name} labels")

    @property
    def inspector(self) -> SeamInspector | None:
        """Merge inspector; None until it is opened."""
        return self.seams.inspector

    def inspect(self) -> SeamInspector:
        """Open the merge inspector below the viewer."""
        return self.seams.inspect()

    def copy_script(self, kind: str) -> str:
        """Copy a script (``"python"``) or a command (``"command"``) that repeats this run, or that resumes a paused run."""
        try:
            plan = self.plan().corrected(self.control.job, self.control.decisions, self.control.again)
        except ValueError as error:
            show_warning(f"Nothing to copy yet. {error}")
            return ""
        text = plan.script() if kind == "python" else plan.command()
        job, layer = self.control.job, self.image.layer
        if plan.in_memory and layer is not None:
            said = f"Copied. “{layer.name}” is only in memory: save it, and enter its path instead of {IN_MEMORY}."
        elif kind == "command" and job is not None and self.control.state == "paused" and not plan.changes(job):
            text = command(["resume", str(job.folder), *plan.cluster.words()])
            said = (
                "Copied the command that resumes this run. For a cluster, enter its scheduler under Run → More first."
            )
        else:
            said = "Copied to the clipboard."
        QApplication.clipboard().setText(text)
        show_info(said)
        return text

    def ask_job(self) -> None:
        """Ask for a job folder, and open it."""
        self._opener.ask()

    def open_job(self, folder: str | Path) -> None:
        """Open a job with its image, its layers and its settings."""
        self._opener.open(folder)
