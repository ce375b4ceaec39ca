"""Jobs that are brought back into the dock from their folder."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QFileDialog

from napari_blockbuster.images import ImageSource
from napari_blockbuster.job.job import Job
from napari_blockbuster.machine.errors import JobMismatchError
from napari_blockbuster.widgets.layers import layer_images, layers
from napari_blockbuster.widgets.layers.lazy import views_of

from .consent import consent

if TYPE_CHECKING:
    from .segment_widget import SegmentWidget

__all__ = ["JobOpener"]


class JobOpener:
    """Opens jobs for a dock: the image if no layer shows it, the layers, and the form as it was."""

    def __init__(self, dock: SegmentWidget) -> None:
        self._dock = dock

    def ask(self) -> None:
        """Ask for a job folder, and open it."""
        chosen = QFileDialog.getExistingDirectory(self._dock, "Open job: a folder that ends in .job")
        if chosen:
            self.open(chosen)

    def open(self, folder: str | Path) -> None:
        """Bring a job back with its image, its layers and its settings."""
        dock = self._dock
        if dock.control.is_busy:
            show_warning("Pause the run that is under way first.")
            return
        spare = dock.image.source

        def make() -> Job:
            job = Job.open(folder)
            if job.source is None and spare is not None:
                # Its image was in memory: the one in the form may be it. If not, the open layers are looked through.
                with contextlib.suppress(JobMismatchError):
                    job = Job.open(folder, image=spare)
            return job

        name = Path(folder).name.removesuffix(".job")
        dock.control.open(make, self._opened, name, dock.running.cluster())

    def _opened(self, job: Job) -> dict[str, Any]:
        """Show the image of a job that was opened, and fill in the form from it."""
        dock = self._dock
        dock.running.set_output(job.spec.output)
        for settings in (job.spec.model, job.spec.prepared):
            consent.doubt(settings)
        dock.model.set_model(job.spec.model["model"], job.spec.model)
        if job.source is None:
            ndim = job.grid.ndim
            return {"scale": np.ones(ndim), "translate": np.zeros(ndim), "units": ("pixel",) * ndim}
        frames = job.grid.separate_axes
        place = self._choose_image(job.source)
        dock.tiles.set_values(job.grid.tile_shape[frames:], job.grid.halo[frames:])
        return place

    def _choose_image(self, source: ImageSource) -> dict[str, Any]:
        """Make the image of a job the one of the form, showing it if nothing does; returns its place."""
        dock = self._dock
        if dock.image.source is not None and layer_images.same_image(source, dock.image.source):
            return dock.place()
        place = layers.place_of(source)
        layer = layer_images.showing(dock.viewer.layers, source)
        if layer is None:
            views = views_of(source)
            layer = dock.viewer.add_image(
                views if len(views) > 1 else views[0],
                multiscale=len(views) > 1,
                name=source.name,
                metadata={layer_images.ORIGIN: layer_images.origin_of(source)},
                **place,
            )
        dock.image.choice.value = layer
        dock.tiles.set_image(source, place)
        return place
