"""Labels that a table can list: those of the job that is open, and any labels layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels

from napari_blockbuster.images import ArraySource, ImageSource, open_image
from napari_blockbuster.images.metadata.axes import Request, plain_layout
from napari_blockbuster.measure.label_image import measure_label_image
from napari_blockbuster.widgets.docks.viewer_docks import widgets_of
from napari_blockbuster.widgets.layers.of_image import layer_images
from napari_blockbuster.widgets.layers.of_image.lazy import LazyView
from napari_blockbuster.widgets.layers.placement import place_of_layer
from napari_blockbuster.widgets.layers.viewer_layers import SPARE, is_image
from napari_blockbuster.widgets.run.control.control import RunControl

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["JobSubject", "LayerSubject", "Subject", "find_control", "find_subjects"]


class Subject:
    """A labels layer whose objects are listed.

    Attributes
    ----------
    layer : napari.layers.Labels
    """

    def __init__(self, layer: Labels) -> None:
        self.layer = layer

    @property
    def name(self) -> str:
        """Name of the layer."""
        return str(self.layer.name)

    @property
    def state(self) -> Any:
        """What the table depends on: it is made anew once this is another object. None while there is nothing to list."""
        raise NotImplementedError

    def prepare(self) -> Callable[[], pd.DataFrame]:
        """Return a function for a thread that makes the table."""
        raise NotImplementedError

    @property
    def place(self) -> dict[str, Any]:
        """Place of the image in the world."""
        return place_of_layer(self.layer, self.layer.ndim)


class JobSubject(Subject):
    """The merged objects of the job that is open. Its table follows each merge."""

    def __init__(self, layer: Labels, control: RunControl) -> None:
        super().__init__(layer)
        self.control = control

    @property
    def state(self) -> Any:
        return self.control.merged

    def prepare(self) -> Callable[[], pd.DataFrame]:
        job, merged = self.control.job, self.control.merged
        assert job is not None
        assert merged is not None
        return lambda: job.table(merged)

    @property
    def has_ranges(self) -> bool:
        """Whether objects outside ranges of columns are left out."""
        return self.control.merged is not None and bool(self.control.merged.filter.ranges)

    @property
    def place(self) -> dict[str, Any]:
        view = self.control.view
        return super().place if view is None else view.place


class LayerSubject(Subject):
    """A labels layer of any origin, which is read once, with the image layers of its shape."""

    def __init__(self, layer: Labels, images: Sequence[Image] = ()) -> None:
        super().__init__(layer)
        self.images = images

    @property
    def state(self) -> Any:
        return self.layer.data

    def prepare(self) -> Callable[[], pd.DataFrame]:
        layer, images = self.layer, list(self.images)
        data = layer.data[0] if layer.multiscale else layer.data
        # Edits while it is read would mix two states of an array in memory.
        kept = data.copy() if isinstance(data, np.ndarray) and data.nbytes < 2**28 else data
        axes, place = {1: "x", 2: "yx", 3: "zyx", 4: "tzyx"}.get(layer.ndim, ""), self.place
        if not axes:
            raise ValueError(f"The layer {layer.name} has {layer.ndim} axes. Tables are made of 1 to 4 axes.")

        def make() -> pd.DataFrame:
            labels = _source(kept, axes, layer.name, place)
            image = layer_images.image_of(images[0], axes, others=images[1:]) if images else None
            return measure_label_image(labels, image, names=[each.name for each in images])

        return make


def _source(data: Any, axes: str, name: str, place: dict[str, Any]) -> ImageSource:
    """Return the labels of a layer as an image at its place."""
    if isinstance(data, LazyView):
        source: ImageSource = ArraySource(data, plain_layout(data, Request(axes=axes), name), name)
    else:
        source = open_image(data, axes=axes)
    source.name = name
    units = tuple(None if str(unit) == "pixel" else str(unit) for unit in place["units"])
    sizes = {"scale": tuple(map(float, place["scale"])), "translation": tuple(map(float, place["translate"]))}
    source.layout = replace(source.layout, units=units, **sizes)
    return source


def find_control(viewer: Any) -> RunControl | None:
    """Return the control of the run in a viewer, if its dock was opened."""
    controls = (getattr(widget, "control", None) for widget in widgets_of(viewer))
    return next((control for control in controls if isinstance(control, RunControl)), None)


def find_subjects(viewer: Any, control: RunControl | None) -> list[Subject]:
    """Return the labels layers of a viewer, the uppermost first; the job's first of all."""
    view = control.view if control is not None else None
    found: list[Subject] = []
    for layer in reversed(list(viewer.layers)):
        if not isinstance(layer, Labels) or SPARE in layer.metadata:
            continue
        if view is not None and layer is view.tiles:
            continue
        if view is not None and control is not None and layer is view.labels:
            found.insert(0, JobSubject(layer, control))
        else:
            found.append(LayerSubject(layer, _images_on(viewer, layer)))
    return found


def _images_on(viewer: Any, labels: Labels) -> list[Image]:
    """Return the image layers with the voxels of a labels layer."""
    shape = tuple((labels.data[0] if labels.multiscale else labels.data).shape)
    place = place_of_layer(labels, labels.ndim)
    return [
        layer
        for layer in viewer.layers
        if is_image(layer)
        and not layer.rgb
        and layer_images.level_shapes(layer)[0] == shape
        and all(
            np.allclose(place[key], place_of_layer(layer, labels.ndim)[key]) for key in ("scale", "translate", "affine")
        )
    ]
