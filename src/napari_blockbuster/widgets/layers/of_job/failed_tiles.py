"""Crosses on failed tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Points

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.stage.store import TileFailure
from napari_blockbuster.widgets.layers.placement import center_of
from napari_blockbuster.widgets.layers.viewer_layers import put_away, show_layer

__all__ = ["FailedTileCrosses"]

CROSSES = "failed tiles"
"""Kind of the points layer."""


class FailedTileCrosses:
    """Points layer with a cross on each failed tile.

    Parameters
    ----------
    viewer : napari.Viewer
    grid : TileGrid
    place : dict
        Of the image (`napari_blockbuster.widgets.layers.placement`).
    clicked : callable
        ``clicked(tile_index)``, called when a cross is clicked.
    """

    def __init__(self, viewer: Any, grid: TileGrid, place: dict[str, Any], clicked: Callable[[int], None]) -> None:
        self._viewer, self._grid, self._place, self._clicked = viewer, grid, place, clicked
        self.layer: Points | None = None

    def show(self, failures: dict[int, TileFailure]) -> None:
        """Show these failed tiles instead of those before."""
        self.close()
        if not failures:
            return
        crosses = Points(
            np.array([center_of(self._grid[index].core) for index in failures]),
            name="Failed tiles",
            symbol="cross",
            size=max(self._grid.tile_shape[-2:]) / 4,
            face_color="#d55e00",
            border_color="white",
            features={"tile": list(failures), "reason": [f"{f.error}: {f.message}" for f in failures.values()]},
            projection_mode="rescale_linear",
            **self._place,
        )
        self.layer = show_layer(self._viewer, CROSSES, crosses, helper=False)
        self.layer.mouse_drag_callbacks.append(self._on_click)

    def close(self) -> None:
        """Put the crosses away."""
        if self.layer is not None:
            self.layer.mouse_drag_callbacks.remove(self._on_click)
        put_away(self._viewer, self.layer, CROSSES)
        self.layer = None

    def _on_click(self, layer: Points, event: Any) -> None:
        found = layer.get_value(
            event.position, view_direction=event.view_direction, dims_displayed=event.dims_displayed, world=True
        )
        if found is not None:
            self._clicked(int(layer.features["tile"].iloc[found]))
