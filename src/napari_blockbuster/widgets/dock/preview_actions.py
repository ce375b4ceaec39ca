"""Actions of the preview section's buttons."""

from __future__ import annotations

from typing import Any

from napari_blockbuster.widgets.choices.plan import Plan
from napari_blockbuster.widgets.choices.tiles_section import with_neighbor
from napari_blockbuster.widgets.clicks import ClickPicker
from napari_blockbuster.widgets.preview.control import PreviewControl, TileFound

from .run_form import RunForm

__all__ = ["PreviewActions"]


class PreviewActions:
    """Connects the preview section to a `PreviewControl`."""

    def __init__(self, viewer: Any, form: RunForm, control: PreviewControl) -> None:
        self._form, self._control = form, control
        self._is_quiet = False
        self._picker = ClickPicker(viewer, self.preview_tile)
        section = form.preview
        section.tile_wanted.connect(self.preview_tile)
        section.seam_wanted.connect(self.preview_seam)
        section.picking_wanted.connect(self._picker.turn)
        section.keep_wanted.connect(control.keep)
        section.halo_wanted.connect(self._use_halo)
        control.busy.connect(section.say_busy)
        form.model.preview_wanted.connect(self.preview_tile)
        control.tile_found.connect(self._show_tile)
        control.seam_found.connect(section.show_seam)
        control.failed.connect(section.fail)
        for shown in (control.tile_found, control.seam_found, control.failed):
            shown.connect(self._reveal)
        form.changed.connect(self._form_changed)

    def preview_tile(self, world: Any = None) -> None:
        """Preview the tile at world coordinates, or in the center of the view."""
        self._is_quiet = False
        self._form.path.open(self._form.preview)
        self._preview(world)

    def _preview(self, world: Any = None) -> None:
        plan = self._plan()
        if plan is None:
            return
        tiles = self._form.tiles.drawing
        index = tiles.target() if world is None else tiles.tile_at(world)
        assert index is not None
        self._control.preview(plan, index, self._form.place())

    def preview_seam(self) -> None:
        """Preview the tile in the center of the view together with a neighbor."""
        self._is_quiet = False
        plan = self._plan()
        if plan is None:
            return
        tiles = with_neighbor(plan.grid(), self._form.tiles.drawing.target())
        if tiles is None:
            self._form.preview.fail("The image has only one tile, so there is no seam.")
            self._reveal()
            return
        self._control.preview_seam(plan, tiles, self._form.place())

    def _show_tile(self, event: TileFound) -> None:
        is_same = self._form.tiles.grid == event.grid
        self._form.preview.show_tile(event, self._form.where.n_chosen if is_same else len(event.grid))

    def _reveal(self, *_: Any) -> None:
        section = self._form.preview
        if self._is_quiet and self._form.path.current is not section:
            # The user changes settings elsewhere. The line of the step says what is new.
            return
        self._form.reveal(section.report, section.advice, section.advice.use)

    def _plan(self) -> Plan | None:
        try:
            return self._form.plan()
        except ValueError as error:
            self._form.preview.fail(str(error))
            return None

    def _use_halo(self, halo: tuple[int, ...]) -> None:
        tiles = self._form.tiles
        tile = tuple(max(t, h) for t, h in zip(tiles.tile.values, halo, strict=True))
        tiles.set_values(tile, halo)

    def _form_changed(self) -> None:
        section = self._form.preview
        section.clear_advice()
        if self._form.is_ready and section.again.isChecked():
            self._is_quiet = True
            self._preview()
