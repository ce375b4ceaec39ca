"""Open jobs from their folders, with their image, layers and settings."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils.notifications import show_warning
from qtpy.QtWidgets import QFileDialog

from napari_blockbuster.images import ImageSource
from napari_blockbuster.job.job import Job
from napari_blockbuster.machine.errors import JobMismatchError
from napari_blockbuster.widgets.choices.consent import consent
from napari_blockbuster.widgets.layers.of_image import layer_images
from napari_blockbuster.widgets.layers.of_image.lazy import views_of
from napari_blockbuster.widgets.layers.placement import place_of_image, place_of_layer, unknown_place
from napari_blockbuster.widgets.run.control.control import RunControl

from .run_form import RunForm

__all__ = ["JobOpener"]


class JobOpener:
    """Opens jobs: shows the image if no layer does, adds the layers, and fills in the form."""

    def __init__(self, viewer: Any, form: RunForm, control: RunControl) -> None:
        self._viewer, self._form, self._control = viewer, form, control

    def ask(self) -> None:
        """Ask for a job folder, and open it."""
        chosen = QFileDialog.getExistingDirectory(self._form, "Open job: choose a folder that ends in .job")
        if chosen:
            self.open(chosen)

    def open(self, folder: str | Path) -> None:
        """Open a job with its image, its layers and its settings."""
        if self._control.is_busy:
            show_warning("A run is in progress. Pause it first.")
            return
        current = self._form.image.source

        def make() -> Job:
            job = Job.open(folder)
            if job.source is None and current is not None:
                # The image of the job was in memory. Try the image of the form; `ImageOffer` tries the other layers.
                with contextlib.suppress(JobMismatchError):
                    job = Job.open(folder, image=current)
            return job

        # As in the run that made the job.
        name = f"{_stem(Path(folder).name.removesuffix('.job'))} labels"
        self._control.open(make, self._opened, name, self._form.running.cluster())

    def _opened(self, job: Job) -> dict[str, Any]:
        """Show the image of a job and fill in the form; returns the place of the image."""
        for settings in (job.spec.model, job.spec.prepared):
            consent.doubt(settings)
        place = _described_place(job) if job.source is None else self._choose_image(job.source)
        self._form.show_job(job)
        return place

    def _choose_image(self, source: ImageSource) -> dict[str, Any]:
        """Choose an image in the form, with a new layer if none shows it; returns its place."""
        form = self._form
        if form.image.source is not None and layer_images.same_image(source, form.image.source):
            self._show_spacing(source)
            return form.place()
        place = place_of_image(source)
        layer = layer_images.showing(self._viewer.layers, source)
        if layer is not None:
            # The labels of the job lie on the layer, which may have been moved.
            place = _place_on(layer, source) or place
        else:
            views = views_of(source)
            layer = self._viewer.add_image(
                views if len(views) > 1 else views[0],
                multiscale=len(views) > 1,
                name=source.name,
                metadata={layer_images.ORIGIN: layer_images.origin_of(source)},
                **place,
            )
            # napari takes the contrast from the first plane, which may be empty. By now it shows the one in the middle.
            layer.reset_contrast_limits()
        form.image.choice.value = layer
        self._show_spacing(source)
        form.tiles.set_image(source, place)
        return place

    def _show_spacing(self, source: ImageSource) -> None:
        """Fill in the voxel size that the user of the job had typed."""
        given = source.layout.spacing
        current = self._form.image.source
        if given is not None and (current is None or current.layout.spacing != given):
            n = source.ndim - source.separate_axes
            self._form.image.spacing.set_typed(given if isinstance(given, tuple) else (given,) * n)


def _stem(name: str) -> str:
    return name.removesuffix(".zarr").removesuffix(".ome").removesuffix(".labels")


def _place_on(layer: Image, source: ImageSource) -> dict[str, Any] | None:
    """Return the place of the level of a layer that has the shape of an image; None if there is none."""
    shapes = [shape[layer.ndim - source.ndim : layer.ndim] for shape in layer_images.level_shapes(layer)]
    return place_of_layer(layer, source.ndim, shapes.index(source.shape)) if source.shape in shapes else None


def _described_place(job: Job) -> dict[str, Any]:
    """Return the place of the image of a job as its folder describes it. The image itself may be missing."""
    image, place = job.spec.image, unknown_place(job.grid.ndim)
    found: dict[str, Any] = {
        "scale": image.get("scale"),
        "translate": image.get("translation"),
        "affine": image.get("affine"),
    }
    place |= {name: np.asarray(value, float) for name, value in found.items() if value is not None}
    units = image.get("units")
    return place | {"units": tuple(unit or "pixel" for unit in units)} if units else place
