"""Labels that a table can list: those of the job that is open, and any labels layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from qtpy.QtWidgets import QApplication

from napari_blockbuster.widgets.layers.placement import place_of_layer
from napari_blockbuster.widgets.layers.viewer_layers import SPARE
from napari_blockbuster.widgets.run.control import RunControl

from .plain_measurement import measure_labels

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
    """A labels layer of any origin, which is read once."""

    @property
    def state(self) -> Any:
        return self.layer.data

    def prepare(self) -> Callable[[], pd.DataFrame]:
        data = self.layer.data[0] if self.layer.multiscale else self.layer.data
        # Edits while it is read would mix two states of an array in memory.
        kept = data.copy() if isinstance(data, np.ndarray) and data.nbytes < 2**28 else data
        return lambda: measure_labels(kept)


def find_control(viewer: Any) -> RunControl | None:
    """Return the control of the run in a viewer, if its dock was opened."""
    for widget in QApplication.allWidgets():
        control = getattr(widget, "control", None)
        if isinstance(control, RunControl) and _plain(getattr(widget, "viewer", None)) is _plain(viewer):
            return control
    return None


def _plain(viewer: Any) -> Any:
    """Return the viewer behind a proxy of napari."""
    return getattr(viewer, "__wrapped__", viewer)


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
            found.append(LayerSubject(layer))
    return found
