"""Shows in the viewer what is chosen in the table: a column as colors, and the selected objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_blockbuster.widgets.layers.of_job.viewport import center_view

from .content import LabelValues, TableContent, robust_limits
from .latest import Latest
from .paint import SELECTION, PaintedLayer
from .subjects import Subject

__all__ = ["TablePainter"]

MOST_FEATURES = 20_000
"""Objects up to which the columns become features of the layer, so that napari shows them under the mouse."""


class TablePainter(QObject):
    """Paints values of labels in layers above their labels layer.

    Parameters
    ----------
    viewer : napari.Viewer
    parent : QObject
    """

    failed = Signal(str)

    def __init__(self, viewer: Any, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.column = ""
        self.colors = PaintedLayer(viewer, "column of a table")
        self.selection = PaintedLayer(viewer, "selected objects")
        self._features: tuple[Any, Any] | None = None
        viewer.dims.events.ndisplay.connect(self._show_features)
        self._coloring = Latest(self, lambda error: self.failed.emit(str(error)))
        self._marking = Latest(self, lambda error: self.failed.emit(str(error)))

    def color(self, subject: Subject | None, content: TableContent | None, column: str) -> None:
        """Color the objects by a column; "" removes the colors."""
        self.column = column
        if subject is None or content is None or column not in content.numeric:
            self._coloring.forget()
            self.colors.hide()
            return

        def prepare() -> tuple[LabelValues, tuple[float, float]]:
            values = content.column(column)
            return LabelValues(content.labels, values), robust_limits(values)

        def show(found: tuple[LabelValues, tuple[float, float]]) -> None:
            if subject.layer in self._viewer.layers:
                shown = self.colors.layer.colormap if self.colors.is_shown and self.colors.layer else "viridis"
                self.colors.show(subject.layer, found[0], f"{subject.name} by {column}", found[1], shown)

        self._coloring.ask(prepare, show)

    def mark(self, subject: Subject | None, labels: np.ndarray) -> None:
        """Mark some objects; none if there are no labels."""
        if subject is None or not len(labels):
            self._marking.forget()
            self.selection.hide()
            return

        def show(values: LabelValues) -> None:
            if subject.layer in self._viewer.layers:
                below = [self.colors.layer] if self.colors.is_shown else []
                self.selection.show(
                    subject.layer, values, "selected objects", (0.0, 1.0), SELECTION, opacity=0.7, above=below
                )

        self._marking.ask(lambda: LabelValues(labels, np.ones(len(labels), np.float32)), show)

    def fly(self, subject: Subject, content: TableContent, row: int) -> None:
        """Center the view on an object."""
        place = content.place_of(row)
        if place is not None and len(place) == subject.layer.ndim:
            center_view(self._viewer, subject.place, place)

    def fill_features(self, subject: Subject | None, content: TableContent | None) -> None:
        """Give the columns to the layer, if there are few enough objects for napari to stay fluid."""
        self._features = None
        if subject is not None and content is not None and 0 < len(content) <= MOST_FEATURES:
            self._features = subject.layer, content.frame.rename(columns={"label": "index"})
        self._show_features()

    def _show_features(self, event: Any = None) -> None:
        if self._features is not None:
            layer, features = self._features
            # In 3D, the status line of napari 0.9 fails on features before the mouse has entered the canvas.
            layer.features = features if self._viewer.dims.ndisplay == 2 else None

    def clear(self) -> None:
        """Hide the layers."""
        self._coloring.forget()
        self._marking.forget()
        self.colors.hide()
        self.selection.hide()
