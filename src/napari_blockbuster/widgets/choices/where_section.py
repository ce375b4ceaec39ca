"""Where section of the dock: the part of the image to segment, and what that means in numbers."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from napari.layers import Labels, Layer, Shapes
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QApplication, QCheckBox, QComboBox, QFileDialog

from napari_blockbuster.geometry.roi import Roi
from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.images.content.emptiness import empty_tiles
from napari_blockbuster.images.content.tissue import tissue_mask
from napari_blockbuster.job.progress.bar import duration
from napari_blockbuster.job.where import read_roi
from napari_blockbuster.machine.units import bytes_text, count_text
from napari_blockbuster.widgets.controls import Note, Section, button, row_of
from napari_blockbuster.widgets.layers.of_image.region_layers import (
    DRAWING,
    add_region_layer,
    add_tissue_layer,
    is_being_drawn,
    roi_of_layer,
    size_of_mask,
)
from napari_blockbuster.widgets.layers.tile_overlay import TileChoice, TileOverlay
from napari_blockbuster.widgets.layers.viewer_layers import SPARE
from napari_blockbuster.widgets.runner import in_thread

from .where_fields import SkipField

__all__ = ["WhereSection"]

EVERYWHERE, TILES = "Everywhere", "Chosen tiles"
INSIDE = {
    "centroid": "If the center is inside",
    "touching": "If any part is inside",
    "clip": "Only the part inside",
}
AT_ONCE = 2**22
"""Voxels of a mask that are read in the GUI thread. A larger one is read in another thread."""


class WhereSection(Section):
    """Region of interest: a layer, a file, or chosen tiles; and tiles that hold nothing.

    Parameters
    ----------
    viewer : napari.Viewer
    tiles : TilesSection
        Its grid and its image are those of the region.
    place : callable
        Return the place of the image.

    Attributes
    ----------
    chosen : numpy.ndarray or None
        Whether each tile is segmented; None for all.
    """

    changed = Signal()

    def __init__(self, viewer: Any, tiles: Any, place: Any) -> None:
        super().__init__("Where")
        self._viewer, self._tiles, self._place = viewer, tiles, place
        self._file = ""
        self._picked: set[int] = set()
        self._drops = False
        self._roi: Roi | None = None
        self._problem, self._reading = "", False
        self._preview: Any = None
        self.chosen: np.ndarray | None = None
        self.overlay = TileOverlay(viewer)
        self._choice = TileChoice(viewer, self._toggle)
        self._layer: Layer | None = None
        self._build()
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(150)
        self._later.timeout.connect(self._update_later)
        tiles.changed.connect(self._grid_changed)
        viewer.layers.events.inserted.connect(self._layers_changed)
        viewer.layers.events.removed.connect(self._layers_changed)
        self._layers_changed()

    def _build(self) -> None:
        self.source = QComboBox()
        self.row("Region", self.source, "Segment only the tiles that meet this layer, this file, or these tiles.")
        self.draw = button("Draw", "Add a layer and draw a polygon in it.", self.draw_region)
        self.tissue = button("Find tissue", "Add a mask of the tissue. Correct it with the brush.", self.find_tissue)
        self.browse = button("File…", "Use a mask, a label image or GeoJSON (QuPath) from a file.", self._ask_file)
        self.pick = button("Choose tiles", "Click tiles in the viewer; hold Shift and drag for many.", lambda: None)
        self.pick.setCheckable(True)
        self.form.addRow(row_of(self.draw, self.tissue, equal=True))
        self.form.addRow(row_of(self.browse, self.pick, equal=True))
        self.inside = QComboBox()
        for name, text in INSIDE.items():
            self.inside.addItem(text, name)
        self.row("Objects", self.inside, "Which objects at the edge of the region are kept: whole, or cut at the edge.")
        self.skip = SkipField()
        self.row("Skip", self.skip, "Tiles that hold nothing. The image is read to find them.")
        self.show_tiles = QCheckBox("Show tiles")
        self.show_tiles.setToolTip("Show which tiles are segmented (green) and which are skipped (dark).")
        self.show_tiles.setChecked(True)
        self.form.addRow(self.show_tiles)
        self.note = Note()
        self.form.addRow(self.note)
        self.source.currentIndexChanged.connect(lambda *_: self._source_changed())
        self.inside.currentIndexChanged.connect(lambda *_: self.changed.emit())
        self.pick.toggled.connect(self._pick_toggled)
        self.skip.changed.connect(self._skip_changed)
        self.show_tiles.toggled.connect(lambda *_: self._show())

    # -------------------------------------------------------------------------------------------------------- values
    def values(self) -> dict[str, Any]:
        """Return the arguments of `napari_blockbuster.segment` that say where; empty for the whole image.

        Raises
        ------
        ValueError
            If the region cannot be used.
        """
        if is_being_drawn(self._layer):
            raise ValueError(DRAWING)
        if self._later.isActive():
            self._later.stop()
            self.update_region()
        if self._problem:
            raise ValueError(self._problem)
        if self._reading:
            raise ValueError("The region is still being read.")
        found: dict[str, Any] = {}
        kind = self.source.currentText()
        if self._roi is not None:
            inside = self.inside.currentData()
            where: Any = self._file if self._is_file() else sorted(self._picked) if kind == TILES else self._roi
            found = {"where": where, "inside": inside}
        return found | self.skip.values()

    def show_tile(self, event: Any) -> None:
        """Take the time that tiles take from a preview (`TileFound`)."""
        self._preview = event
        self._say()

    @property
    def n_chosen(self) -> int:
        """Number of tiles that are segmented."""
        grid: TileGrid | None = self._tiles.grid
        return 0 if grid is None else len(grid) if self.chosen is None else int(self.chosen.sum())

    # -------------------------------------------------------------------------------------------------------- sources
    def _layers_changed(self, event: Any = None) -> None:
        """List the layers that can be a region. The chosen one stays chosen."""
        wanted = self._layer if self._layer in self._viewer.layers else None
        was, kind = self._layer is not None and wanted is None, self.source.currentText()
        self.source.blockSignals(True)
        self.source.clear()
        self.source.addItem(EVERYWHERE)
        for layer in self._viewer.layers:
            if type(layer) in (Shapes, Labels) and SPARE not in layer.metadata and layer is not self.overlay.layer:
                self.source.addItem(layer.name, layer)
        if self._picked or kind == TILES:
            self.source.addItem(TILES)
        if self._file:
            self.source.addItem(self._file.rsplit("/", 1)[-1], self._file)
        index = 0 if wanted is None else self.source.findText(wanted.name)
        if wanted is None and not was:
            index = max(self.source.findText(kind), 0)
        self.source.setCurrentIndex(max(index, 0))
        self.source.blockSignals(False)
        if was:
            self._source_changed()

    def _is_file(self) -> bool:
        return bool(self._file) and self.source.currentData() == self._file

    def choose(self, text: str) -> None:
        """Choose a region by its name in the list."""
        self.source.setCurrentIndex(self.source.findText(text))

    def _source_changed(self) -> None:
        self._listen(False)
        layer = self.source.currentData()
        self._layer = layer if isinstance(layer, Layer) else None
        self._listen(True)
        if self.source.currentText() == TILES:
            self.inside.setCurrentIndex(self.inside.findData("touching"))
        self.update_region()

    def _listen(self, on: bool) -> None:
        if self._layer is None:
            return
        events = self._layer.events
        for name in ("data", "set_data", "paint", "labels_update", "scale", "translate", "affine"):
            emitter = getattr(events, name, None)
            if emitter is not None:
                (emitter.connect if on else emitter.disconnect)(self._edited)

    def _edited(self, event: Any = None) -> None:
        self._later.start()

    def _update_later(self) -> None:
        """Read the region again, but not in the middle of a drawing: the overlay is a layer, and a new layer would end it."""
        if is_being_drawn(self._layer) or QApplication.mouseButtons() != Qt.NoButton:
            self._later.start()
        else:
            self.update_region()

    def draw_region(self) -> None:
        """Add a shapes layer to draw in, and make it the region."""
        source: ImageSource | None = self._tiles.source
        self.choose(add_region_layer(self._viewer, None if source is None else self._place()).name)

    def find_tissue(self) -> None:
        """Find the tissue in a thread, and show it as a labels layer."""
        source: ImageSource | None = self._tiles.source
        if source is None:
            self.note.say("Choose an image first.", problem=True)
            return
        self.tissue.setEnabled(False)
        self.note.say("Looking for tissue…")
        place = self._place()
        in_thread(
            lambda: tissue_mask(source),
            lambda mask: self._show_tissue(mask, source, place),
            lambda error: self.note.say(str(error), problem=True),
            lambda: self.tissue.setEnabled(True),
            owner=self,
        )

    def _show_tissue(self, mask: np.ndarray, source: ImageSource, place: dict[str, Any]) -> None:
        if not mask.any():
            self.note.say("No tissue was found: nothing stands out. Draw a region instead.", problem=True)
            return
        self.choose(add_tissue_layer(self._viewer, mask, source.shape, place).name)

    def _ask_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Region", "", "Masks and GeoJSON (*)")
        if path:
            self.use_file(path)

    def use_file(self, path: str) -> None:
        """Use a mask, a label image or GeoJSON from a file."""
        self._file = path
        self._layers_changed()
        self.source.setCurrentIndex(self.source.findData(path))

    # ---------------------------------------------------------------------------------------------------------- tiles
    def _pick_toggled(self, on: bool) -> None:
        self._choice.turn(on)
        if on and self.source.currentText() != TILES:
            self.source.addItem(TILES)
            self.source.setCurrentIndex(self.source.count() - 1)

    def _toggle(self, tiles: list[int], first: bool) -> None:
        """Choose tiles, or drop them if the first tile of a click or drag was chosen."""
        if first:
            self._drops = tiles[0] in self._picked
        self._picked = self._picked - set(tiles) if self._drops else self._picked | set(tiles)
        self.update_region()

    # --------------------------------------------------------------------------------------------------------- region
    def _grid_changed(self) -> None:
        grid: TileGrid | None = self._tiles.grid
        if grid is not None and grid != self._choice.grid:
            self._picked = set()
        self._choice.grid, self._choice.place = grid, self._place() if grid is not None else {}
        self.skip.forget()
        self.update_region(emit=False)

    def update_region(self, emit: bool = True) -> None:
        """Read the region again, and show what it means."""
        grid, source = self._tiles.grid, self._tiles.source
        self._roi, self._problem, self._reading = None, "", False
        if grid is None or source is None:
            self.chosen = None
        elif self._layer is not None and size_of_mask(self._layer) > AT_ONCE:
            self._read_later(grid, source)
        else:
            try:
                self._roi = self._read(grid, source)
            except (ValueError, OSError) as error:
                self._problem = str(error)
        self._show()
        if emit:
            self.changed.emit()
        if is_being_drawn(self._layer):
            # After the signal: its receivers ask for the region.
            self._later.start()

    def _read(self, grid: TileGrid, source: ImageSource) -> Roi | None:
        if is_being_drawn(self._layer):
            raise ValueError(DRAWING)
        if self._layer is not None:
            return roi_of_layer(self._layer, self._place(), grid.shape)
        if self._is_file():
            return read_roi(self._file, source, grid)[0]
        if self.source.currentText() == TILES:
            if not self._picked:
                raise ValueError("No tile is chosen yet. Click tiles in the viewer; hold Shift and drag for many.")
            return read_roi(sorted(self._picked), source, grid)[0]
        return None

    def _read_later(self, grid: TileGrid, source: ImageSource) -> None:
        layer, place = self._layer, self._place()
        self._reading = True

        def done(roi: Roi | None, problem: str = "") -> None:
            if layer is self._layer and grid == self._tiles.grid:
                self._roi, self._problem, self._reading = roi, problem, False
                self._show()
                self.changed.emit()

        in_thread(
            lambda: roi_of_layer(layer, place, grid.shape), done, lambda error: done(None, str(error)), owner=self
        )

    def _skip_changed(self) -> None:
        """Look for tiles that hold nothing, in a thread."""
        grid, source = self._tiles.grid, self._tiles.source
        asked = self.skip.values()
        if asked and grid is not None and source is not None and self.skip.empty is None:
            canceled = threading.Event()
            self.skip.search(canceled)
            in_thread(
                lambda: empty_tiles(source, grid, range(len(grid)), asked.get("skip_below"), canceled=canceled),
                lambda found: self._show_empty(found, canceled),
                lambda error: self.note.say(str(error), problem=True),
                owner=self,
            )
        self._show()
        self.changed.emit()

    def _show_empty(self, found: list[int], canceled: threading.Event) -> None:
        if not canceled.is_set():
            self.skip.found(found)
            self._show()

    # ---------------------------------------------------------------------------------------------------------- shown
    def _show(self) -> None:
        grid: TileGrid | None = self._tiles.grid
        empty = np.zeros(0 if grid is None else len(grid), bool)
        if grid is not None:
            self.chosen = None if self._roi is None else self._roi.coverage(grid) > 0
            if self.skip.empty:
                empty[self.skip.empty] = True
                self.chosen = ~empty if self.chosen is None else self.chosen & ~empty
        if grid is None or self.chosen is None or not self.show_tiles.isChecked() or grid.ndim < 2:
            self.overlay.hide()
        else:
            self.overlay.show(grid, self._place(), self.chosen, empty)
        self._say()

    def _say(self) -> None:
        grid, source = self._tiles.grid, self._tiles.source
        if self._problem:
            self.note.say(self._problem, problem=self._problem != DRAWING)
            self.say_brief(self._problem, problem=self._problem != DRAWING)
            return
        if grid is None or source is None or (self.chosen is None and not self._reading):
            self.note.say("")
            self.say_brief("everywhere" if grid is not None else "")
            return
        n = self.n_chosen
        voxels = math.prod(grid.shape) * n / len(grid)
        parts = [f"{n:,} of {count_text(len(grid), 'tile')}"]
        parts.append(f"{bytes_text(int(voxels * source.dtype.itemsize * source.n_channels))} of pixels")
        if self._preview is not None and self._preview.grid == grid:
            parts.append(f"about {duration(self._preview.estimate(n).seconds)}")
        text = ", ".join(parts)
        self.say_brief(text, problem=n == 0)
        if self.skip.empty is not None:
            text += f". {count_text(len(self.skip.empty), 'tile')} of the image hold nothing"
        self.note.say("Reading the region…" if self._reading else f"{text}.", problem=n == 0)
