"""The dock widget: sections from top to bottom in the order of the work, wired to the two controllers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QMenu,
    QMessageBox,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_blockbuster.models import Model
from napari_blockbuster.output.result import Result
from napari_blockbuster.widgets.controls import button
from napari_blockbuster.widgets.inspector.clicks import ClickPicker
from napari_blockbuster.widgets.inspector.inspector import SeamInspector
from napari_blockbuster.widgets.inspector.seam_actions import SeamActions
from napari_blockbuster.widgets.layers import layer_images
from napari_blockbuster.widgets.preview.control import PreviewControl
from napari_blockbuster.widgets.preview.section import PreviewSection
from napari_blockbuster.widgets.run.actions import RunActions
from napari_blockbuster.widgets.run.activity import Activity
from napari_blockbuster.widgets.run.control import RunControl
from napari_blockbuster.widgets.run.events import Progress
from napari_blockbuster.widgets.run.merge_section import MergeSection
from napari_blockbuster.widgets.run.section import RunSection, free_path, output_for, preferred_cluster
from napari_blockbuster.widgets.run.session import Session

from .image_section import ImageSection
from .job_opener import JobOpener
from .model_section import ModelSection
from .plan import Plan
from .tiles_section import TilesSection, with_neighbour

__all__ = ["SegmentWidget"]


class SegmentWidget(QWidget):
    """Segment a large image: pick, preview one tile, run, watch, merge, write.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.session = Session()
        self.image = ImageSection(napari_viewer)
        self.model = ModelSection()
        self.tiles = TilesSection(napari_viewer)
        self.preview = PreviewSection()
        self.running = RunSection(preferred_cluster())
        self.merging = MergeSection()
        self.previews = PreviewControl(napari_viewer, self.session, self)
        self.control = RunControl(napari_viewer, self.session, self)
        self.seams = SeamActions(napari_viewer, self.control, self.merging, self._model_now)
        self.opener = JobOpener(self)
        self.actions = RunActions(self)
        self._activity = Activity()
        self.is_ready = False
        self._picker = ClickPicker(napari_viewer, self.preview_tile)
        self.was_docked = False
        self._lay_out()
        self._wire()
        self._wire_viewer()
        self._model_changed()
        self._image_changed()

    def _lay_out(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(4, 4, 4, 4)
        for section in (self.image, self.model, self.tiles, self.preview, self.running, self.merging):
            column.addWidget(section)
        column.addStretch()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        scroll.setFrameShape(QScrollArea.NoFrame)
        scroll.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll, 1)
        outer.addWidget(self._footer())
        self.setMinimumWidth(330)

    def _footer(self) -> QWidget:
        holder = QWidget()
        row = QHBoxLayout(holder)
        row.setContentsMargins(4, 0, 4, 4)
        row.addWidget(
            button("Open job…", "Restore a run from its folder (name.job), paused or finished.", self.opener.ask)
        )
        copy = QPushButton("Copy as script")
        copy.setToolTip("Copy what repeats this run without a viewer, on any machine.")
        menu = QMenu(copy)
        menu.addAction("Python", lambda: self.copy_script("python"))
        menu.addAction("Command line", lambda: self.copy_script("command"))
        copy.setMenu(menu)
        row.addWidget(copy)
        row.addStretch()
        return holder

    # ------------------------------------------------------------------------------------------------------- wiring
    def _wire(self) -> None:
        self.image.changed.connect(self._image_changed)
        self.model.changed.connect(self._model_changed)
        self.tiles.changed.connect(self._plan_changed)
        self.preview.tile_wanted.connect(self.preview_tile)
        self.preview.seam_wanted.connect(self.preview_seam)
        self.preview.picking_wanted.connect(self._picker.turn)
        self.preview.keep_wanted.connect(self.previews.keep)
        self.preview.halo_wanted.connect(self._use_halo)
        self.previews.busy.connect(self.preview.status.say)
        self.previews.tile_found.connect(self.preview.show_tile)
        self.previews.seam_found.connect(self.preview.show_seam)
        self.previews.failed.connect(self.preview.fail)
        self.running.tile_wanted.connect(self._fly_to_tile)
        self.merging.changed.connect(self._remerge)
        self.merging.write_wanted.connect(self.write)
        self.merging.seams_wanted.connect(self.seams.show)
        self.merging.step_wanted.connect(self.seams.step)
        self.merging.inspect_wanted.connect(self.inspect)
        self.merging.delete_wanted.connect(self._delete_stage)
        self.control.changed.connect(self._control_changed)
        self.control.progressed.connect(self._progressed)
        self.control.status.connect(self.say)
        self.control.warned.connect(show_warning)
        self.control.failed.connect(self._run_failed)
        self.control.written.connect(self._written)
        self.control.failed_clicked.connect(self.running.show_failure)

    def _wire_viewer(self) -> None:
        self.viewer.bind_key("t", lambda _: self.preview_tile(self.viewer.cursor.position), overwrite=True)
        self.seams.bind_keys()
        life, session = self.control.life, self.session

        def leave(*_: Any) -> None:
            # This widget is gone: only what it left running is touched.
            life.end()
            session.close_soon()

        self._leave = leave
        self.destroyed.connect(leave)

    # --------------------------------------------------------------------------------------------- closed and opened
    def showEvent(self, event: Any) -> None:
        """Know the viewer's window: it may close while this widget is in no dock, and is not deleted with it."""
        super().showEvent(event)
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
            # Later: on its way from one dock to another it has no parent either.
            QTimer.singleShot(0, self._report_closed)

    def _report_closed(self) -> None:
        if self.parent() is None and self.control.is_busy:
            show_info("The run continues. To show it again: Plugins → Segment large image (Blockbuster).")

    # --------------------------------------------------------------------------------------------------------- form
    def plan(self, anew: bool = True) -> Plan:
        """What the form says.

        Parameters
        ----------
        anew : bool, default True
            Whether the file of a function is read anew, as is needed for whatever runs it.

        Raises
        ------
        ValueError
            Naming what is missing or wrong.
        """
        if self.image.source is None:
            raise ValueError("choose an image first")
        model = self.model.current() if anew else self.model.model
        if model is None:
            raise ValueError(f"the model cannot be used: {self.model.problem}")
        if self.tiles.grid is None:
            raise ValueError(f"the tiles cannot be used: {self.tiles.note.plain}")
        return Plan(
            source=self.image.source,
            model=model,
            tile_shape=self.tiles.tile.values,
            halo=self.tiles.halo.values,
            output=self.running.output.text().strip(),
            cluster=self.running.cluster(),
            merge=self.merging.choice(),
        )

    def place(self) -> dict[str, Any]:
        """Where layers on the chosen image belong."""
        assert self.image.source is not None
        return self.image.place(self.image.source.ndim)

    def _image_changed(self) -> None:
        source = self.image.source
        self.tiles.set_image(source, self.place() if source is not None else {})
        if source is not None and not self.control.is_busy:
            job = self.control.job
            # A job without its image still says where its labels go.
            if job is None or (job.source is not None and not layer_images.same_image(job.source, source)):
                self.running.suggest_output(output_for(source))
        self._plan_changed()

    def _model_changed(self) -> None:
        self.tiles.set_model(self.model.model)
        self._plan_changed()

    def _plan_changed(self) -> None:
        try:
            self.plan(anew=False)
            self.is_ready = True
        except ValueError:
            self.is_ready = False
        for widget in (self.preview.tile, self.preview.seam, self.preview.pick):
            widget.setEnabled(self.is_ready)
        self.actions.check()
        self.preview.outdate()
        if self.is_ready and self.preview.again.isChecked():
            self.preview_tile()

    def _model_now(self) -> Model | None:
        """The model of the form, its function read anew; None, and the reason below it, if it cannot be used."""
        try:
            return self.model.current()
        except ValueError as error:
            self.model.note.say(str(error), problem=True)
            return None

    def _use_halo(self, halo: tuple[int, ...]) -> None:
        tile = tuple(max(t, h) for t, h in zip(self.tiles.tile.values, halo, strict=True))
        self.tiles.set_values(tile, halo)

    # ------------------------------------------------------------------------------------------------------ preview
    def preview_tile(self, world: Any = None) -> None:
        """Preview the tile at a place, or in the middle of the view."""
        try:
            plan = self.plan()
        except ValueError as error:
            self.preview.fail(str(error))
            return
        index = self.tiles.target() if world is None else self.tiles.tile_at(world)
        assert index is not None
        self.previews.preview(plan, index, self.place())

    def preview_seam(self) -> None:
        """Preview the tile in the middle of the view with the neighbour that is nearest to it."""
        try:
            plan = self.plan()
        except ValueError as error:
            self.preview.fail(str(error))
            return
        tiles = with_neighbour(plan.grid(), self.tiles.target())
        if tiles is None:
            self.preview.fail("There is only one tile, so there is no seam.")
            return
        self.previews.preview_seam(plan, tiles, self.place())

    # ---------------------------------------------------------------------------------------------------------- run
    def begin(self, plan: Plan) -> None:
        """Run a plan, in place of the job that is open."""
        self.previews.cancel()
        self.previews.clear()
        assert self.image.layer is not None
        self.control.start(plan, self.place(), f"{self.image.layer.name} labels")

    def write(self) -> None:
        """Write the merged labels; asks before a result that this job wrote earlier is replaced."""
        job = self.control.job
        if job is None:
            return
        overwrite = False
        if Path(job.spec.output).exists():
            overwrite = self._ask(f"{job.spec.output} exists. Replace it by the labels as they are merged now?")
            if not overwrite:
                return
        self.control.write(overwrite)

    def _remerge(self) -> None:
        if self.control.job is not None and self.control.state in ("paused", "staged", "merging", "written"):
            self.control.merge(self.merging.choice())

    def _delete_stage(self) -> None:
        if self._ask("Delete the staged tiles? The written labels stay; they can then not be merged in another way."):
            self.control.delete_stage()

    def _ask(self, question: str) -> bool:
        return bool(QMessageBox.question(self, "Blockbuster", question) == QMessageBox.Yes)

    # ------------------------------------------------------------------------------------------- what the run tells
    def _control_changed(self) -> None:
        control = self.control
        self.running.show_state(control.state)
        self.running.show_failures(control.failures)
        self.merging.show_state(control.state, control.merged)
        for section in (self.image, self.model, self.tiles):
            section.setEnabled(not control.is_busy)
        if control.state not in ("staging", "pausing", "writing"):
            self._activity.end()
        if control.state == "staged" and self.merging.seams.isChecked():
            self.seams.show(True)
        self.actions.check()

    def _progressed(self, progress: Progress) -> None:
        self.running.show_progress(progress)
        if self.control.state in ("staging", "writing"):
            self._activity.show(progress)

    def say(self, text: str) -> None:
        """Show what happens now."""
        link = self.session.dashboard_link
        if link and self.control.state == "staging":
            text += f' · <a href="{link}" style="color: #3b9edb">dask dashboard</a>'
        self.running.status.say(text)

    def _run_failed(self, message: str) -> None:
        self.running.problem.say(message, problem=True)
        show_error(message)

    def _written(self, result: Result) -> None:
        gaps = f"; {len(result.missing_tiles)} tiles are missing" if result.missing_tiles else ""
        show_info(f"{result.n_objects:,} objects written to {result.path}{gaps}")
        # What is written stays: another run goes beside it.
        self.running.set_output(free_path(result.path))

    def _fly_to_tile(self, index: int) -> None:
        if self.control.view is not None:
            self.control.view.fly_to(index)

    # -------------------------------------------------------------------------------------------------------- seams
    @property
    def inspector(self) -> SeamInspector | None:
        """The merge inspector, if it is open."""
        return self.seams.inspector

    def inspect(self) -> SeamInspector:
        """Open the merge inspector below the viewer, or bring it back."""
        return self.seams.inspect()

    # --------------------------------------------------------------------------------------------------------- jobs
    def copy_script(self, kind: str) -> str:
        """Put what repeats this run on the clipboard, as ``"python"`` or as a ``"command"``."""
        try:
            plan = self.plan()
        except ValueError as error:
            show_warning(f"Nothing to copy yet: {error}")
            return ""
        text = plan.script() if kind == "python" else plan.command()
        QApplication.clipboard().setText(text)
        show_info("Copied")
        return text

    def ask_job(self) -> None:
        """Ask for a job folder, and open it."""
        self.opener.ask()

    def open_job(self, folder: str | Path) -> None:
        """Bring a job back with its image, its layers and its settings."""
        self.opener.open(folder)
