"""The label under a click in the viewer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Labels

from napari_blockbuster.widgets.clicks import ClickPicker

__all__ = ["LabelClicks"]

LOOKING = ("pan_zoom", "pick")
"""Modes of a labels layer in which a click changes nothing."""


class LabelClicks:
    """Reports the label that was clicked in the layer whose objects are listed.

    Parameters
    ----------
    viewer : napari.Viewer
    layer : callable
        Return the labels layer.
    clicked : callable
        Called with the label.
    """

    def __init__(self, viewer: Any, layer: Callable[[], Labels | None], clicked: Callable[[int], None]) -> None:
        self._viewer, self._layer, self._clicked = viewer, layer, clicked
        self._picker = ClickPicker(viewer, self.pick_at)

    def turn(self, on: bool) -> None:
        """Start or stop reporting clicks."""
        self._picker.turn(on)

    def pick_at(self, world: Any) -> None:
        """Report the label at a place in world coordinates, if there is one."""
        layer, active = self._layer(), self._viewer.layers.selection.active
        # A click with a brush, or with a tool of another layer, is none on a table.
        if layer is None or layer not in self._viewer.layers or str(getattr(active, "mode", "pan_zoom")) not in LOOKING:
            return
        dims = self._viewer.dims
        direction = getattr(self._viewer.cursor, "_view_direction", None) if dims.ndisplay == 3 else None
        value = layer.get_value(world, view_direction=direction, dims_displayed=list(dims.displayed), world=True)
        # A pyramid reports its level as well.
        label = value[1] if isinstance(value, tuple) else value
        if label is not None and np.ndim(label) == 0 and int(label) > 0:
            self._clicked(int(label))
