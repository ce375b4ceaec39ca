"""Where section of the dock: the part of the image to segment, and what that means in numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QPushButton

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.job.progress.bar import duration
from napari_blockbuster.machine.units import bytes_text, count_text
from napari_blockbuster.widgets.controls import Note, Section
from napari_blockbuster.widgets.layers.tile_overlay import TileOverlay

from .region_buttons import RegionButtons
from .region_source import RegionSource
from .skip_field import SkipField

__all__ = ["WhereSection"]

INSIDE = {
    "centroid": "If the center is inside",
    "touching": "If any part is inside",
    "clip": "Only the part inside",
}


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
        self._tiles, self._place = tiles, place
        self._preview: Any = None
        self.chosen: np.ndarray | None = None
        self.overlay = TileOverlay(viewer)
        self.source = RegionSource(viewer, tiles, place, self.overlay)
        self.buttons = RegionButtons(viewer, tiles, place, self.source)
        self._add_fields()
        self._connect()

    def _add_fields(self) -> None:
        self.row("Region", self.source, "Segment only the tiles that meet this layer, this file, or these tiles.")
        self.form.addRow(self.buttons)
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

    def _connect(self) -> None:
        self._tiles.changed.connect(self._grid_changed)
        self.source.chosen.connect(self._region_chosen)
        self.source.edited.connect(self.update_region)
        self.source.loaded.connect(self._region_loaded)
        self.buttons.said.connect(self.note.say)
        self.inside.currentIndexChanged.connect(lambda *_: self.changed.emit())
        self.skip.changed.connect(self._skip_changed)
        self.skip.searched.connect(self._show)
        self.skip.failed.connect(lambda message: self.note.say(message, problem=True))
        self.show_tiles.toggled.connect(lambda *_: self._show())

    @property
    def draw(self) -> QPushButton:
        """Button that adds a layer to draw in."""
        return self.buttons.draw

    @property
    def tissue(self) -> QPushButton:
        """Button that finds tissue."""
        return self.buttons.tissue

    @property
    def pick(self) -> QPushButton:
        """Button that lets the mouse choose tiles."""
        return self.buttons.pick

    # -------------------------------------------------------------------------------------------------------- values
    def values(self) -> dict[str, Any]:
        """Return the arguments of `napari_blockbuster.segment` that say where; empty for the whole image.

        Raises
        ------
        ValueError
            If the region cannot be used.
        """
        if self.source.take_edit():
            self.update_region()
        if self.source.problem:
            raise ValueError(self.source.problem)
        if self.source.is_reading:
            raise ValueError("The region is still being read.")
        found: dict[str, Any] = {}
        if self.source.roi is not None:
            found = {"where": self.source.value(), "inside": self.inside.currentData()}
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

    # --------------------------------------------------------------------------------------------------------- region
    def choose(self, text: str) -> None:
        """Choose a region by its name in the list."""
        self.source.choose(text)

    def use_file(self, path: str) -> None:
        """Use a mask, a label image or GeoJSON from a file."""
        self.source.use_file(path)

    def _region_chosen(self) -> None:
        if self.source.is_tiles:
            self.inside.setCurrentIndex(self.inside.findData("touching"))
        self.update_region()

    def _region_loaded(self) -> None:
        self._show()
        self.changed.emit()

    def _grid_changed(self) -> None:
        self.source.set_grid(self._tiles.grid)
        self.skip.forget()
        self.update_region(emit=False)

    def update_region(self, emit: bool = True) -> None:
        """Read the region again, and show what it means."""
        self.source.read()
        if self._tiles.grid is None or self._tiles.source is None:
            self.chosen = None
        self._show()
        if emit:
            self.changed.emit()
        # After the signal: its receivers ask for the region.
        self.source.watch_drawing()

    def _skip_changed(self) -> None:
        grid, source = self._tiles.grid, self._tiles.source
        if grid is not None and source is not None:
            self.skip.search(source, grid)
        self._show()
        self.changed.emit()

    # ---------------------------------------------------------------------------------------------------------- shown
    def _show(self) -> None:
        grid: TileGrid | None = self._tiles.grid
        empty = np.zeros(0 if grid is None else len(grid), bool)
        if grid is not None:
            self.chosen = None if self.source.roi is None else self.source.roi.coverage(grid) > 0
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
        if self.source.problem:
            self.note.say(self.source.problem, problem=not self.source.is_drawn)
            self.say_brief(self.source.problem, problem=not self.source.is_drawn)
            return
        if grid is None or source is None or (self.chosen is None and not self.source.is_reading):
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
        self.note.say("Reading the region…" if self.source.is_reading else f"{text}.", problem=n == 0)
