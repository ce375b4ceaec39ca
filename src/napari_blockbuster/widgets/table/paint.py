"""Layers that show a column as colors, and the selected objects: the labels on the screen, mapped through a look-up table.

A labels layer takes ten seconds to color 20,000 labels one by one. These layers are images of floats. Only the plane in view
is mapped, when napari reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.utils.colormaps import Colormap

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.widgets.layers.of_image.lazy import LazyView
from napari_blockbuster.widgets.layers.placement import place_of_layer
from napari_blockbuster.widgets.layers.viewer_layers import PAINTED, SPARE

from .content import LabelValues

__all__ = ["COLORMAPS", "SELECTION", "PaintedLayer"]

COLORMAPS = ("viridis", "plasma", "turbo", "gray", "PiYG", "hsv")
SELECTION = Colormap([[1, 0.75, 0, 1], [1, 0.75, 0, 1]], name="selected objects")


class PaintedLayer:
    """An image layer on a labels layer, whose pixels are values of its labels.

    Parameters
    ----------
    viewer : napari.Viewer
    kind : str
        Layers are reused for the same kind.
    """

    def __init__(self, viewer: Any, kind: str) -> None:
        self._viewer, self._kind = viewer, kind
        self._values: LabelValues | None = None
        self._labels: Labels | None = None
        self.layer: Image | None = None

    @property
    def is_shown(self) -> bool:
        """Whether the layer is in the viewer."""
        return self.layer is not None and self.layer in self._viewer.layers and SPARE not in self.layer.metadata

    def show(
        self,
        labels: Labels,
        values: LabelValues,
        name: str,
        limits: tuple[float, float],
        colormap: str | Colormap,
        opacity: float = 1.0,
        above: Sequence[Image | None] = (),
    ) -> None:
        """Show values of labels as colors. Labels without a value are transparent.

        The layer lies right above the labels, and above other layers that lie there.
        """
        data = _views(labels, lambda: self._values)
        same_place = self.is_shown and self._labels is labels and data[0].shape == tuple(self._finest.shape)
        self._values, self._labels = values, labels
        if not same_place:
            self._place(labels, data, name, above)
        layer = self.layer
        assert layer is not None
        # Each of these repaints the layer.
        wanted = {"name": name, "contrast_limits_range": limits, "contrast_limits": limits, "opacity": opacity}
        for key, value in wanted.items():
            if getattr(layer, key) != (list(value) if isinstance(value, tuple) else value):
                setattr(layer, key, value)
        if layer.colormap != colormap and layer.colormap.name != colormap:
            layer.colormap = colormap
        if same_place:
            self._fill(data)
        layer.visible = True

    @property
    def _finest(self) -> Any:
        assert self.layer is not None
        return self.layer.data[0] if self.layer.multiscale else self.layer.data

    def _place(self, labels: Labels, data: list[LazyView], name: str, above: Sequence[Image | None]) -> None:
        """Add the layer, or reuse the one that was put away."""
        viewer, multiscale = self._viewer, len(data) > 1
        selected = set(viewer.layers.selection)
        place = place_of_layer(labels, labels.ndim)
        fits = (
            self.layer is not None
            and self.layer in viewer.layers
            and self.layer.ndim == labels.ndim
            and self.layer.multiscale == multiscale
        )
        if fits:
            self._fill(data)
            for key, value in place.items():
                setattr(self.layer, key, value)
            self.layer.metadata = {PAINTED: self._kind}
        else:
            self._put_away()
            self.layer = Image(
                data if multiscale else data[0],
                name=name,
                multiscale=multiscale,
                rgb=False,
                contrast_limits=(0, 1),
                blending="translucent_no_depth",
                interpolation2d="nearest",
                interpolation3d="nearest",
                metadata={PAINTED: self._kind},
                **place,
            )
            viewer.add_layer(self.layer)
        below = [viewer.layers.index(each) for each in (labels, *above) if each is not None and each in viewer.layers]
        viewer.layers.move(viewer.layers.index(self.layer), max(below) + 1)
        viewer.layers.selection = selected

    def _fill(self, data: list[LazyView]) -> None:
        assert self.layer is not None
        self.layer.data = type(self.layer.data)(data) if self.layer.multiscale else data[0]

    def repaint(self, values: LabelValues | None = None) -> None:
        """Read the labels in view again, with other values if some are given."""
        if not self.is_shown or self._labels is None:
            return
        if values is not None:
            self._values = values
        # napari keeps the coarsest level in memory: only new data are read again.
        self._fill(_views(self._labels, lambda: self._values))

    def hide(self) -> None:
        """Hide the layer. It is reused, because removing layers can crash software rendering."""
        self._values = None
        self._put_away()

    def _put_away(self) -> None:
        if self.is_shown and self.layer is not None:
            layer = self.layer
            layer.visible = False
            if not layer.multiscale:
                self._fill([LazyView((1,) * layer.ndim, np.float32, _nothing)])
            layer.metadata = {SPARE: self._kind}
            layer.name = f"{layer.name} (empty)"
            self._viewer.layers.selection.discard(layer)


def _nothing(box: Box) -> np.ndarray:
    return np.full(box.shape, np.nan, np.float32)


def _views(labels: Labels, values: Callable[[], LabelValues | None]) -> list[LazyView]:
    """Return the levels of a labels layer as views of values."""
    levels: Sequence[Any] = labels.data if labels.multiscale else [labels.data]
    return [_view(level, values) for level in levels]


def _view(level: Any, values: Callable[[], LabelValues | None]) -> LazyView:
    def read(box: Box) -> np.ndarray:
        current = values()
        pixels = np.asarray(level[box.slices])
        return np.full(pixels.shape, np.nan, np.float32) if current is None else current(pixels)

    return LazyView(tuple(level.shape), np.float32, read)
