"""Form of the dock: its sections from top to bottom, and the run that they describe."""

from __future__ import annotations

from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QScrollArea, QWidget

from napari_blockbuster.job.job import Job
from napari_blockbuster.job.setup.channels import check_channels
from napari_blockbuster.models import Model
from napari_blockbuster.widgets.choices.image_section import ImageSection
from napari_blockbuster.widgets.choices.model_section import ModelSection
from napari_blockbuster.widgets.choices.plan import Plan
from napari_blockbuster.widgets.choices.tiles_section import TilesSection
from napari_blockbuster.widgets.choices.where.where_section import WhereSection
from napari_blockbuster.widgets.controls import Section, unfold
from napari_blockbuster.widgets.layers.of_image.wishes import DIAMETER, TILE
from napari_blockbuster.widgets.preview.section import PreviewSection
from napari_blockbuster.widgets.run.fields import preferred_cluster
from napari_blockbuster.widgets.run.merge_section import MergeSection
from napari_blockbuster.widgets.run.section import RunSection

from .path import Path

__all__ = ["RunForm"]


class RunForm(QScrollArea):
    """Sections of the dock.

    Attributes
    ----------
    image, model, tiles, where, preview, running, merging : QWidget
        The sections.
    path : Path
        The steps. The tiles are folded in the step of the preview.
    is_ready : bool
        Whether image, model and tiles are valid.
    problem : str
        Why they are not.
    """

    changed = Signal()
    """Image, model, tiles or region changed."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.image = ImageSection(viewer)
        self.model = ModelSection()
        self.tiles = TilesSection(viewer)
        self.where = WhereSection(viewer, self.tiles, self.place)
        self.preview = PreviewSection()
        self.running = RunSection(preferred_cluster())
        self.merging = MergeSection()
        self.is_ready, self.problem = False, ""
        self.path = Path()
        self._awaits_image = True
        self._lay_out()
        self.image.changed.connect(self._image_changed)
        self.model.changed.connect(self._model_changed)
        self.tiles.changed.connect(self._check)
        self.where.changed.connect(self._check)
        # Its line changes with the number of tiles.
        self.where.briefed.connect(lambda: self.preview.show_run(self.tiles.grid, self.where.n_chosen))
        self._model_changed()
        self._image_changed()

    def _lay_out(self) -> None:
        self.preview.add_more(self.tiles, self.tiles.fold)
        for section in (self.image, self.where, self.model, self.preview, self.running, self.merging):
            self.path.add(section)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        self.setFrameShape(QScrollArea.NoFrame)
        # Tab goes to the fields.
        self.setFocusPolicy(Qt.NoFocus)
        self.setWidget(self.path)
        self.path.open(self.image)

    def showEvent(self, event: Any) -> None:
        """Make the dock wide enough for every step, also beside the scroll bar. Only now its fonts are known."""
        super().showEvent(event)
        margins = self.path.layout().contentsMargins()
        widest = max(section.minimumSizeHint().width() for section in self.path.sections)
        bar = self.verticalScrollBar().sizeHint().width()
        self.setMinimumWidth(widest + margins.left() + margins.right() + bar)

    def add_section(self, section: Section, after: Section | None = None) -> None:
        """Add a step after another one; None: after the image."""
        self.path.add(section, after or self.image)

    def reveal(self, *widgets: QWidget) -> None:
        """Open the step of widgets and scroll to them, once there is room for their texts. The first matters most."""
        inside = [widget for widget in widgets if self.path.isAncestorOf(widget)]
        if inside:
            unfold(inside[0])

        def scroll() -> None:
            self.widget().layout().activate()
            for widget in reversed([each for each in inside if each.isVisible()]):
                self.ensureWidgetVisible(widget, 0, 4)

        QTimer.singleShot(0, lambda: scroll() if isalive(self) else None)

    def plan(self, anew: bool = True) -> Plan:
        """Return the run that the form describes.

        Parameters
        ----------
        anew : bool, default True
            Read the file of a function again. Required before the function runs.

        Raises
        ------
        ValueError
            If something is missing or invalid.
        """
        if self.image.source is None:
            raise ValueError("Choose an image first.")
        model = self.model.current() if anew else self.model.model
        if model is None:
            raise ValueError(f"The model cannot be used: {self.model.problem}")
        check_channels(self.image.source, model)
        if self.tiles.grid is None:
            raise ValueError(f"The tiles cannot be used: {self.tiles.note.plain}")
        return Plan(
            source=self.image.source,
            model=model,
            tile_shape=self.tiles.tile.values,
            halo=self.tiles.halo.values,
            output=self.running.output.text().strip(),
            cluster=self.running.cluster(),
            merge=self.merging.choice(),
            where=self.where.values(),
        )

    def show_job(self, job: Job) -> None:
        """Fill in the settings of a job. Its tiles need no image, but no other axes than those of an open image."""
        self.running.set_output(job.spec.output)
        self.model.set_model(job.spec.model["model"], job.spec.model)
        frames, source = job.grid.separate_axes, self.image.source
        axes = job.spec.image["axes"][frames:]
        if source is None or list(source.axes[source.separate_axes :]) == list(axes):
            self.tiles.set_values(job.grid.tile_shape[frames:], job.grid.halo[frames:], axes)

    def place(self) -> dict[str, Any]:
        """Return the place of the chosen image (`napari_blockbuster.widgets.layers.placement`); empty without an image."""
        source = self.image.source
        return {} if source is None else self.image.place(source.ndim)

    def reloaded_model(self) -> Model | None:
        """Return the model with its function read again; None, with a note below the model, if it cannot be used."""
        try:
            return self.model.current()
        except ValueError as error:
            self.model.note.say(str(error), problem=True)
            return None

    def set_busy(self, busy: bool) -> None:
        """Disable the sections that must not change while a step runs."""
        for section in (self.image, self.model, self.tiles, self.where):
            section.setEnabled(not busy)

    def _image_changed(self) -> None:
        source = self.image.source
        self._suggest_channels()
        wishes = self.image.layer.metadata if self.image.layer is not None else {}
        if source is not None:
            self.model.show_axes(source.ndim - source.separate_axes)
            self.model.suggest_diameter(wishes.get(DIAMETER))
        self.tiles.set_image(source, self.place() if source is not None else {}, wishes.get(TILE))
        self._advance()

    def _advance(self) -> None:
        """Go from the image to the model once an image needs no choice, and back when there is none."""
        if self.image.layer is None:
            self._awaits_image = True
            if self.path.current in (self.model, self.preview):
                self.path.open(self.image)
        elif self.image.source is not None and self._awaits_image:
            self._awaits_image = False
            if self.path.current is self.image and not self.image.offers_channels:
                self.path.open(self.model)

    def _model_changed(self) -> None:
        self.tiles.set_model(self.model.model)
        self._suggest_channels()

    def _problem_of_channels(self) -> str:
        if self.image.source is not None and self.model.model is not None:
            try:
                check_channels(self.image.source, self.model.model)
            except ValueError as error:
                return str(error).replace(", channel= (--channel)", " of them.")
        return ""

    def _suggest_channels(self) -> None:
        if self.model.model is not None:
            self.image.suggest_channels(*self.model.model.channel_range())

    def _check(self) -> None:
        self.image.channel.note.say(self._problem_of_channels(), problem=True)
        try:
            self.plan(anew=False)
            self.is_ready, self.problem = True, ""
        except ValueError as error:
            self.is_ready, self.problem = False, str(error)
        self.preview.set_ready(self.is_ready)
        self.model.preview.setEnabled(self.is_ready)
        self.changed.emit()
