"""How the image is cut: tile and halo along each axis, with suggestions and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Shapes, Vectors
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QCheckBox

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.job.suggestion import make_grid, suggest_tiles
from napari_blockbuster.models import Model
from napari_blockbuster.widgets.controls import Note, Section, add_helper, remove_layer, row_of, times
from napari_blockbuster.widgets.layers import layer_images, layers

from .forms import AxesForm

__all__ = ["TilesSection", "with_neighbour"]

MOST_LINES = 2000
UNSET_TILE, UNSET_HALO = 0, -1
"""Shown as a question mark: nobody has typed or suggested a number yet."""
LEAST_SIDE, MANY_TILES = 16, 10_000
"""Tiles of fewer voxels than a cube of this side are a mistake where there are many of them."""


class TilesSection(Section):
    """Tile and halo. While `automatic` is ticked they follow image and model; typing a number unticks it."""

    changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__("3  Tiles")
        self._viewer = viewer
        self._source: ImageSource | None = None
        self._model: Model | None = None
        self._place: dict[str, Any] = {}
        self._outline: Shapes | None = None
        self._lines: Vectors | None = None
        self.grid: TileGrid | None = None
        self.automatic = QCheckBox("choose for me")
        self.automatic.setToolTip("Tile from the image's chunks and the memory at hand, halo from the model.")
        self.automatic.setChecked(True)
        self.form.addRow(self.automatic)
        self.tile = AxesForm("tile", "How much of the image each tile writes.", UNSET_TILE)
        self.halo = AxesForm(
            "halo", "Context around each tile: at least as far as the largest object reaches.", UNSET_HALO
        )
        self.row("tile", self.tile)
        self.row("halo", self.halo)
        self.outline = QCheckBox("outline of a tile")
        self.outline.setToolTip("Draw the tile in the middle of the view, and what it reads around it.")
        self.lines = QCheckBox("grid")
        self.lines.setToolTip("Draw the borders of all tiles.")
        self.row("show", row_of(self.outline, self.lines, None))
        self.note = Note()
        self.form.addRow(self.note)
        self.automatic.toggled.connect(lambda *_: self._suggest())
        self.tile.changed.connect(self._typed)
        self.halo.changed.connect(self._typed)
        self.outline.toggled.connect(lambda *_: self.draw_outline())
        self.lines.toggled.connect(lambda *_: self._draw_lines())
        self._moved = QTimer(self)
        self._moved.setSingleShot(True)
        self._moved.setInterval(100)
        self._moved.timeout.connect(self.draw_outline)
        viewer.scene.camera.events.center.connect(self._on_moved)
        viewer.dims.events.current_step.connect(self._on_moved)

    # ------------------------------------------------------------------------------------------------------ numbers
    def set_image(self, source: ImageSource | None, place: dict[str, Any]) -> None:
        """Another image, or none."""
        self._source, self._place = source, place
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
        # Numbers that were typed for other axes say nothing about these.
        self._tick(True)

    def _tick(self, on: bool) -> None:
        self.automatic.blockSignals(True)
        self.automatic.setChecked(on)
        self.automatic.blockSignals(False)

    @staticmethod
    def _fill(form: AxesForm, values: Sequence[int]) -> None:
        form.blockSignals(True)
        form.set_values(values)
        form.blockSignals(False)

    def set_model(self, model: Model | None) -> None:
        """Another model or other settings; None while they cannot be used."""
        self._model = model
        self._suggest()

    def set_values(self, tile: tuple[int, ...], halo: tuple[int, ...]) -> None:
        """Fill in chosen numbers."""
        self.automatic.setChecked(False)
        self.tile.set_values(tile)
        self.halo.set_values(halo)
        self._update()

    def _suggest(self) -> None:
        if self._source is not None and self._model is not None and self.automatic.isChecked():
            try:
                tile, halo = suggest_tiles(self._source, self._model)
            except ValueError as error:
                self._show(None, str(error))
                return
            self._fill(self.tile, tile)
            self._fill(self.halo, tuple(min(h, t) for h, t in zip(halo, tile, strict=True)))
        self._update()

    def _typed(self) -> None:
        self._tick(False)
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
                else f"Type a tile and a halo for each axis, or tick “{self.automatic.text()}”.",
            )
        else:
            try:
                grid = make_grid(self._source, self.tile.values, self.halo.values)
                _check_size(grid)
            except ValueError as error:
                self._show(None, str(error))
            else:
                self._show(grid, _in_words(grid, self._source))

    def _show(self, grid: TileGrid | None, text: str) -> None:
        self.grid = grid
        self.note.say(text, problem=grid is None)
        self.draw_outline()
        self._draw_lines()
        self.changed.emit()

    # ------------------------------------------------------------------------------------------------------ drawing
    def target(self) -> int | None:
        """The tile in the middle of the view."""
        if self.grid is None:
            return None
        dims = self._viewer.dims
        place = np.array(dims.point, float)
        shown = list(dims.displayed)
        place[shown] = np.asarray(self._viewer.scene.camera.center)[-len(shown) :]
        return self.tile_at(place)

    def tile_at(self, world: Any) -> int:
        """The tile at a place in world coordinates; the nearest one for a place outside of the image."""
        assert self.grid is not None
        return self.grid.tile_at(np.round(layers.voxel_at(self._place, world))).index

    def draw_outline(self) -> None:
        """Draw tile and halo of the target on the image, or take them away."""
        target = self.target() if self.outline.isChecked() else None
        if self.grid is None or target is None or self.grid.ndim < 2:
            remove_layer(self._viewer, self._outline)
            self._outline = None
            return
        known = self._outline if self._outline in self._viewer.layers else None
        self._outline = layers.show_tile(self.grid, target, self._place, known)
        if known is None:
            add_helper(self._viewer, self._outline)

    def _draw_lines(self) -> None:
        remove_layer(self._viewer, self._lines)
        self._lines = None
        if not self.lines.isChecked() or self.grid is None or self.grid.ndim < 2:
            return
        n_lines = sum(self.grid.grid_shape[-2:]) + 2
        if n_lines > MOST_LINES:
            self.note.say(f"{n_lines:,} lines are too many to draw; choose larger tiles to see the grid", problem=True)
            return
        self._lines = layers.grid_lines(self.grid, self._place)
        add_helper(self._viewer, self._lines)

    def _on_moved(self, event: Any = None) -> None:
        if self.outline.isChecked():
            self._moved.start()


def _check_size(grid: TileGrid) -> None:
    spatial = grid.tile_shape[grid.separate_axes :]
    if len(grid) > MANY_TILES and math.prod(spatial) < LEAST_SIDE ** len(spatial):
        raise ValueError(
            f"{len(grid):,} tiles of {times(spatial)} voxels are too many and too small: choose larger tiles"
        )


def _in_words(grid: TileGrid, source: ImageSource) -> str:
    frames = grid.separate_axes
    tile = grid.tile_shape[frames:]
    read = [min(t + 2 * h, n) for t, h, n in zip(tile, grid.halo[frames:], grid.shape[frames:], strict=True)]
    more = math.prod(read) / math.prod(tile)
    text = f"{len(grid):,} tile{'s' * (len(grid) != 1)}; each reads {times(read)} voxels"
    if more > 1.005:
        text += f", {more:.2g} times what it writes"
    unit = layer_images.unit_of(source)
    if unit is not None and any(grid.halo):
        reach = [h * s for h, s in zip(grid.halo[frames:], source.spacing, strict=True)]
        text += f"; halo of {times([round(r, 1) for r in reach])} {unit}"
    return text + "."


def with_neighbour(grid: TileGrid, index: int | None) -> tuple[int, int] | None:
    """A tile and a neighbour across a face; along the last axis that has one."""
    if index is None:
        return None
    near = grid.face_neighbours(index)
    return (min(index, near[0]), max(index, near[0])) if near else None
