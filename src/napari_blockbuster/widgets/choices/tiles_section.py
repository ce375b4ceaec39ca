"""Tiles section of the dock: tile and halo along each axis."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.job.setup.suggestion import make_grid, suggest_tiles
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.models import Model
from napari_blockbuster.widgets.controls import Fold, Note, Section, row_of, times
from napari_blockbuster.widgets.layers.of_image import layer_images
from napari_blockbuster.widgets.layers.tile_drawing import TileDrawing
from napari_blockbuster.widgets.texts import voxels_name

from .forms import AxesForm

__all__ = ["TilesSection", "with_neighbor"]

UNSET_TILE, UNSET_HALO = 0, -1
"""Values of empty fields, shown as question marks."""
LEAST_SIDE, MANY_TILES = 16, 10_000
"""More than `MANY_TILES` tiles, each smaller than a cube of this side, are refused as a mistake."""


class TilesSection(Section):
    """Tile and halo. While `automatic` is checked, they follow the image and the model; a typed number unchecks it."""

    changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__("Tiles")
        self.form.setContentsMargins(6, 0, 0, 0)
        self.fold = Fold("More", self)
        self._source: ImageSource | None = None
        self._model: Model | None = None
        self._wish: tuple[int, ...] | None = None
        self.grid: TileGrid | None = None
        self.drawing = TileDrawing(viewer, self)
        self.automatic = QCheckBox("Choose automatically")
        self.automatic.setToolTip("Choose the tile by the image's chunks and the memory, the halo by the model.")
        self.automatic.setChecked(True)
        self.form.addRow(self.automatic)
        self.tile = AxesForm("Tile", "Part of the image that is segmented at once.", UNSET_TILE)
        self.halo = AxesForm(
            "Halo", "Margin that is read around each tile. It should be as wide as the largest object.", UNSET_HALO
        )
        self.row("Tile", self.tile)
        self.row("Halo", self.halo)
        self.outline = QCheckBox("Tile outline")
        self.outline.setToolTip("Draw the tile in the center of the view (yellow) and its halo (blue).")
        self.lines = QCheckBox("Grid")
        self.lines.setToolTip("Draw the borders of all tiles.")
        self.row("Show", row_of(self.outline, self.lines, None))
        self.note = Note()
        self.form.addRow(self.note)
        self.automatic.toggled.connect(lambda *_: self._suggest())
        self.tile.changed.connect(self._typed)
        self.halo.changed.connect(self._typed)
        self.outline.toggled.connect(self.drawing.draw_outline)
        self.lines.toggled.connect(lambda *_: self._draw_lines())

    @property
    def source(self) -> ImageSource | None:
        """The image; None if there is none."""
        return self._source

    def set_image(self, source: ImageSource | None, place: dict[str, Any], wish: tuple[int, ...] | None = None) -> None:
        """Set the image, its place, and the tile that its layer suggests; None if there is no image."""
        self._source, self.drawing.place = source, place
        # A layer can be shown with other axes than those of its wish.
        self._wish = (
            wish if source is not None and wish is not None and len(wish) == len(source.spatial_shape) else None
        )
        for form in (self.tile, self.halo):
            self.form.setRowVisible(form, source is not None or bool(form.spins))
        if source is not None:
            self._set_axes(source.axes[source.separate_axes :])
        self._suggest()

    def _set_axes(self, axes: Sequence[str]) -> None:
        if list(self.tile.spins) == list(axes):
            return
        for form, unset in ((self.tile, UNSET_TILE), (self.halo, UNSET_HALO)):
            form.set_axes(axes)
            for axis, spin in form.spins.items():
                spin.setSpecialValueText(f"{axis} ?")
            self._fill(form, (unset,) * len(axes))
        # Numbers that were typed for other axes do not apply.
        self._check_automatic(True)

    def _check_automatic(self, on: bool) -> None:
        self.automatic.blockSignals(True)
        self.automatic.setChecked(on)
        self.automatic.blockSignals(False)

    @staticmethod
    def _fill(form: AxesForm, values: Sequence[int]) -> None:
        form.blockSignals(True)
        form.set_values(values)
        form.blockSignals(False)

    def set_model(self, model: Model | None) -> None:
        """Set the model; None while its settings are invalid."""
        self._model = model
        self._suggest()

    def set_values(self, tile: tuple[int, ...], halo: tuple[int, ...], axes: Sequence[str] | None = None) -> None:
        """Set the numbers as if they were typed. Without an image, `axes` names the axes."""
        if axes is not None:
            self._set_axes(axes)
            for form in (self.tile, self.halo):
                self.form.setRowVisible(form, True)
        self.automatic.setChecked(False)
        self.tile.set_values(tile)
        self.halo.set_values(halo)
        self._update()

    def _suggest(self) -> None:
        if self._source is not None and self._model is not None and self.automatic.isChecked():
            try:
                tile, halo = suggest_tiles(self._source, self._model, self._wish)
            except ValueError as error:
                self._show(None, str(error))
                return
            self._fill(self.tile, tile)
            self._fill(self.halo, tuple(min(h, t) for h, t in zip(halo, tile, strict=True)))
        self._update()

    def _typed(self) -> None:
        self._check_automatic(False)
        self._update()

    def _update(self) -> None:
        if self._source is None:
            self._show(None, "")
        elif UNSET_TILE in self.tile.values or UNSET_HALO in self.halo.values:
            automatic = self.automatic.isChecked()
            self._show(
                None,
                "Tile and halo are chosen once the model can be used."
                if automatic
                else f"Type a tile and a halo for each axis, or check “{self.automatic.text()}”.",
            )
        else:
            try:
                grid = make_grid(self._source, self.tile.values, self.halo.values)
                _check_size(grid)
            except ValueError as error:
                self._show(None, _with_axes(str(error), self._source.axes))
            else:
                self._show(grid, _description(grid, self._source))

    def _show(self, grid: TileGrid | None, text: str) -> None:
        self.grid = self.drawing.grid = grid
        self.note.say(text, problem=grid is None)
        brief = text
        if grid is not None:
            brief = f"{count_text(len(grid), 'tile')} of {times(grid.tile_shape[grid.separate_axes :])}"
        self.fold.say(brief, problem=grid is None and bool(text))
        self.drawing.draw_outline(self.outline.isChecked())
        self._draw_lines()
        self.changed.emit()

    def _draw_lines(self) -> None:
        problem = self.drawing.draw_lines(self.lines.isChecked())
        if problem:
            self.note.say(problem, problem=True)


def _with_axes(message: str, axes: Sequence[str]) -> str:
    """Return a message with the names of axes instead of their numbers, as a sentence."""
    named = re.sub(
        r"\baxis (\d)\b", lambda found: axes[int(found[1])] if int(found[1]) < len(axes) else found[0], message
    )
    return named[:1].upper() + named[1:]


def _check_size(grid: TileGrid) -> None:
    spatial = grid.tile_shape[grid.separate_axes :]
    if len(grid) > MANY_TILES and math.prod(spatial) < LEAST_SIDE ** len(spatial):
        raise ValueError(
            f"{len(grid):,} tiles of {times(spatial)} {voxels_name(len(spatial))}s are too many and too small. "
            "Choose larger tiles."
        )


def _description(grid: TileGrid, source: ImageSource) -> str:
    frames = grid.separate_axes
    tile = grid.tile_shape[frames:]
    read = [min(t + 2 * h, n) for t, h, n in zip(tile, grid.halo[frames:], grid.shape[frames:], strict=True)]
    factor = math.prod(read) / math.prod(tile)
    text = f"{count_text(len(grid), 'tile')}. Each reads {times(read)} {voxels_name(len(tile))}s"
    if factor > 1.005:
        text += f", {factor:.2g} times its own size"
    unit = layer_images.unit_of(source)
    if unit is not None and any(grid.halo):
        reach = [h * s for h, s in zip(grid.halo[frames:], source.spacing, strict=True)]
        text += f". The halo is {times([round(r, 1) for r in reach])} {unit} wide"
    return text + "."


def with_neighbor(grid: TileGrid, index: int | None) -> tuple[int, int] | None:
    """Return a tile and a neighbor across a face, along the last axis that has one."""
    if index is None:
        return None
    near = grid.face_neighbors(index)
    return (min(index, near[0]), max(index, near[0])) if near else None
