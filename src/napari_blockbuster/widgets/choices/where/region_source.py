"""Where a region of interest comes from: a layer, a file, or tiles that were chosen with the mouse."""

from __future__ import annotations

from typing import Any

from napari.layers import Labels, Layer, Shapes
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QApplication, QComboBox

from napari_blockbuster.geometry.roi import Roi
from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.job.where import read_roi
from napari_blockbuster.widgets.layers.layer_watch import LayerWatch
from napari_blockbuster.widgets.layers.of_image.region_layers import DRAWING, is_being_drawn, roi_of_layer, size_of_mask
from napari_blockbuster.widgets.layers.tile_overlay import TileChoice, TileOverlay
from napari_blockbuster.widgets.layers.viewer_layers import SPARE
from napari_blockbuster.widgets.runner import in_thread

__all__ = ["RegionSource"]

EVERYWHERE, TILES = "Everywhere", "Chosen tiles"
EDITS = ("data", "set_data", "paint", "labels_update", "scale", "translate", "affine")
"""Events of a layer after which the region is another one."""
AT_ONCE = 2**22
"""Voxels of a mask that are read in the GUI thread. A larger one is read in another thread."""


class RegionSource(QComboBox):
    """List of the layers, files and tiles that can be the region of interest, and the region of the chosen one.

    Parameters
    ----------
    viewer : napari.Viewer
    tiles : TilesSection
        Its grid and its image are those of the region.
    place : callable
        Return the place of the image.
    overlay : TileOverlay
        Its layer is not a region.

    Attributes
    ----------
    roi : Roi or None
        The region; None for the whole image, and while there is a problem.
    problem : str
        Why there is no region, or "".
    is_reading : bool
        Whether the region is being read in a thread.
    """

    chosen = Signal()
    """Another region was chosen."""
    edited = Signal()
    """The chosen region was edited."""
    loaded = Signal()
    """The region was read in a thread."""

    def __init__(self, viewer: Any, tiles: Any, place: Any, overlay: TileOverlay) -> None:
        super().__init__()
        self._viewer, self._tiles, self._place, self._overlay = viewer, tiles, place, overlay
        self._file = ""
        self._layer: Layer | None = None
        self._choice = TileChoice(viewer, self.edited.emit)
        self.roi: Roi | None = None
        self.problem, self.is_reading = "", False
        self._later = LayerWatch(self, EDITS)
        self._later.timeout.connect(self._settle)
        viewer.layers.events.inserted.connect(self._list)
        viewer.layers.events.removed.connect(self._list)
        self._list()
        self.currentIndexChanged.connect(lambda *_: self._turn())

    # -------------------------------------------------------------------------------------------------------- choosing
    @property
    def is_tiles(self) -> bool:
        """Whether the region is the tiles chosen with the mouse."""
        return bool(self.currentText() == TILES)

    @property
    def is_drawn(self) -> bool:
        """Whether a user draws the region now."""
        return is_being_drawn(self._layer)

    @property
    def _is_file(self) -> bool:
        return bool(self._file) and self.currentData() == self._file

    def value(self) -> Any:
        """Return the region as `napari_blockbuster.segment` takes it."""
        return self._file if self._is_file else sorted(self._choice.picked) if self.is_tiles else self.roi

    def choose(self, text: str) -> None:
        """Choose a region by its name in the list."""
        self.setCurrentIndex(self.findText(text))

    def use_file(self, path: str) -> None:
        """Use a mask, a label image or GeoJSON from a file."""
        self._file = path
        self._list()
        self.setCurrentIndex(self.findData(path))

    def pick_tiles(self, on: bool) -> None:
        """Let the mouse choose tiles, or stop that."""
        self._choice.turn(on)
        if on and not self.is_tiles:
            self.addItem(TILES)
            self.setCurrentIndex(self.count() - 1)

    def set_grid(self, grid: TileGrid | None) -> None:
        """Choose tiles of another grid from now on."""
        if grid is not None and grid != self._choice.grid:
            self._choice.picked = set()
        self._choice.grid, self._choice.place = grid, self._place() if grid is not None else {}

    def _list(self, event: Any = None) -> None:
        """List the layers that can be a region. The chosen one stays chosen."""
        wanted = self._layer if self._layer in self._viewer.layers else None
        was, kind = self._layer is not None and wanted is None, self.currentText()
        self.blockSignals(True)
        self.clear()
        self.addItem(EVERYWHERE)
        for layer in self._viewer.layers:
            if type(layer) in (Shapes, Labels) and SPARE not in layer.metadata and layer is not self._overlay.layer:
                self.addItem(layer.name, layer)
        if self._choice.picked or kind == TILES:
            self.addItem(TILES)
        if self._file:
            self.addItem(self._file.rsplit("/", 1)[-1], self._file)
        index = 0 if wanted is None else self.findText(wanted.name)
        if wanted is None and not was:
            index = max(self.findText(kind), 0)
        self.setCurrentIndex(max(index, 0))
        self.blockSignals(False)
        if was:
            self._turn()

    def _turn(self) -> None:
        layer = self.currentData()
        self._layer = layer if isinstance(layer, Layer) else None
        self._later.watch(self._layer)
        self.chosen.emit()

    # --------------------------------------------------------------------------------------------------------- editing
    def _settle(self) -> None:
        """Report an edit, but not in the middle of a drawing: the overlay is a layer, and a new layer would end it."""
        if self.is_drawn or QApplication.mouseButtons() != Qt.NoButton:
            self._later.start()
        else:
            self.edited.emit()

    def take_edit(self) -> bool:
        """Return whether there is an edit that was not reported yet. It will not be.

        Raises
        ------
        ValueError
            While the region is being drawn.
        """
        if self.is_drawn:
            raise ValueError(DRAWING)
        waiting = bool(self._later.isActive())
        self._later.stop()
        return waiting

    def watch_drawing(self) -> None:
        """Report an edit once a drawing is finished: napari emits no event for that."""
        if self.is_drawn:
            self._later.start()

    # --------------------------------------------------------------------------------------------------------- reading
    def read(self) -> None:
        """Read the region again; in a thread if it is large."""
        grid, source = self._tiles.grid, self._tiles.source
        self.roi, self.problem, self.is_reading = None, "", False
        if grid is None or source is None:
            return
        if self._layer is not None and size_of_mask(self._layer) > AT_ONCE:
            self._read_in_thread(grid)
            return
        try:
            self.roi = self._read(grid, source)
        except (ValueError, OSError) as error:
            self.problem = str(error)

    def _read(self, grid: TileGrid, source: ImageSource) -> Roi | None:
        if self.is_drawn:
            raise ValueError(DRAWING)
        if self._layer is not None:
            return roi_of_layer(self._layer, self._place(), grid.shape)
        if self._is_file:
            return read_roi(self._file, source, grid)[0]
        if self.is_tiles:
            if not self._choice.picked:
                raise ValueError(
                    "No tile is chosen yet. Click tiles in the viewer. Hold Shift and drag to choose many."
                )
            return read_roi(sorted(self._choice.picked), source, grid)[0]
        return None

    def _read_in_thread(self, grid: TileGrid) -> None:
        layer, place = self._layer, self._place()
        self.is_reading = True

        def done(roi: Roi | None, problem: str = "") -> None:
            if layer is self._layer and grid == self._tiles.grid:
                self.roi, self.problem, self.is_reading = roi, problem, False
                self.loaded.emit()

        in_thread(
            lambda: roi_of_layer(layer, place, grid.shape), done, lambda error: done(None, str(error)), owner=self
        )
