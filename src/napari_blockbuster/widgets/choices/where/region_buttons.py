"""Buttons that make a region of interest: draw it, find tissue, open a file, choose tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from napari_blockbuster.images import ImageSource
from napari_blockbuster.images.content.tissue import tissue_mask
from napari_blockbuster.widgets.controls import button, row_of
from napari_blockbuster.widgets.layers.of_image.region_layers import add_region_layer, add_tissue_layer
from napari_blockbuster.widgets.runner import in_thread

from .region_source import RegionSource

__all__ = ["RegionButtons"]


class RegionButtons(QWidget):
    """Make a region, and choose it in the list of regions.

    Parameters
    ----------
    viewer : napari.Viewer
    tiles : TilesSection
        Its image is that of the region.
    place : callable
        Return the place of the image.
    source : RegionSource
    """

    said = Signal(str, bool)
    """Something to show to the user, and whether it is a problem."""

    def __init__(self, viewer: Any, tiles: Any, place: Any, source: RegionSource) -> None:
        super().__init__()
        self._viewer, self._tiles, self._place, self._source = viewer, tiles, place, source
        self.draw = button("Draw", "Add a layer and draw a polygon in it.", self.draw_region)
        self.tissue = button("Find tissue", "Add a mask of the tissue. Correct it with the brush.", self.find_tissue)
        self.browse = button("File…", "Use a mask, a label image or GeoJSON (QuPath) from a file.", self._ask_file)
        self.pick = button(
            "Choose tiles", "Click tiles in the viewer. Hold Shift and drag to choose many.", lambda: None
        )
        self.pick.setCheckable(True)
        self.pick.toggled.connect(source.pick_tiles)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addWidget(row_of(self.draw, self.tissue, equal=True))
        rows.addWidget(row_of(self.browse, self.pick, equal=True))

    def draw_region(self) -> None:
        """Add a shapes layer to draw in, and make it the region."""
        source: ImageSource | None = self._tiles.source
        self._source.choose(add_region_layer(self._viewer, None if source is None else self._place()).name)

    def find_tissue(self) -> None:
        """Find the tissue in a thread, and show it as a labels layer."""
        source: ImageSource | None = self._tiles.source
        if source is None:
            self.said.emit("Choose an image first.", True)
            return
        self.tissue.setEnabled(False)
        self.said.emit("Looking for tissue…", False)
        place = self._place()
        in_thread(
            lambda: tissue_mask(source),
            lambda mask: self._show_tissue(mask, source, place),
            lambda error: self.said.emit(str(error), True),
            lambda: self.tissue.setEnabled(True),
            owner=self,
        )

    def _show_tissue(self, mask: np.ndarray, source: ImageSource, place: dict[str, Any]) -> None:
        if not mask.any():
            self.said.emit("No tissue was found: nothing stands out. Draw a region instead.", True)
            return
        self._source.choose(add_tissue_layer(self._viewer, mask, source.shape, place).name)

    def _ask_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Region", "", "Masks and GeoJSON (*)")
        if path:
            self._source.use_file(path)
