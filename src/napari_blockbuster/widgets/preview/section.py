"""One tile before the run: what the model finds, whether the halo is large enough, what the run will take."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox

from napari_blockbuster.job.preview import Preview, SeamPreview
from napari_blockbuster.job.progress import duration
from napari_blockbuster.widgets.controls import Note, Section, button, bytes_text, row_of, times

from .control import TileFound

__all__ = ["PreviewSection"]


class PreviewSection(Section):
    """Buttons and report. What they ask for is done by `PreviewControl`."""

    tile_wanted = Signal()
    seam_wanted = Signal()
    picking_wanted = Signal(bool)
    keep_wanted = Signal()
    halo_wanted = Signal(object)
    """Halo along each spatial axis that the objects of a preview ask for."""

    def __init__(self) -> None:
        super().__init__("4  Preview")
        self.tile = button(
            "Preview tile (T)", "Segment the tile in the middle of the view, with its halo.", self.tile_wanted.emit
        )
        self.pick = button("Click a tile", "Then click in the image: that tile is previewed.", lambda: None)
        self.pick.setCheckable(True)
        self.pick.toggled.connect(self.picking_wanted.emit)
        self.seam = button(
            "Preview seam",
            "Segment the tile in the middle of the view and its nearest neighbour, and merge them.",
            self.seam_wanted.emit,
        )
        self.keep = button(
            "Keep to compare", "Leave this preview in the layer list, to compare other settings with it.", self._keep
        )
        self.keep.setEnabled(False)
        for pair in ((self.tile, self.pick), (self.seam, self.keep)):
            self.form.addRow(row_of(*pair, equal=True))
        self.again = QCheckBox("preview again when a setting changes")
        self.form.addRow(self.again)
        self.status = Note()
        self.report = Note()
        self.advice = Note()
        self.kept = Note()
        self.widen = button("Use this halo", "Set the halo to what the objects of the preview need.", self._widen)
        self.widen.hide()
        for note in (self.status, self.report, self.advice, self.widen, self.kept):
            self.form.addRow(note)
        self._halo: tuple[int, ...] = ()
        self._kept: list[str] = []
        self._summary = ""

    def show_tile(self, event: TileFound) -> None:
        """Report a preview."""
        found, grid = event.found, event.grid
        frames = grid.separate_axes
        self._summary = f"{event.settings}: {found.n_objects:,} objects, {duration(found.seconds)}"
        loading = f" (and {duration(found.load_seconds)} to load)" if found.load_seconds > 1 else ""
        run = event.estimate
        self.report.say(
            f"<b>{found.n_objects:,} objects</b> in the tile, {duration(found.seconds)}{loading}; "
            f"{_memory(found)}<br>"
            f"All {run.n_tiles:,} tiles: about <b>{duration(run.seconds)}</b>, "
            f"{bytes_text(run.disk_bytes)} of disk at most.",
            problem=found.tight,
        )
        halo = grid.halo[frames:]
        short = [e > h for e, h in zip(found.extent, halo, strict=True)]
        n_cut = grid.grid_shape[frames:]
        matters = any(s and n > 1 for s, n in zip(short, n_cut, strict=True))
        self._halo = tuple(max(h, e) if n > 1 else h for h, e, n in zip(halo, found.extent, n_cut, strict=True))
        if not any(found.extent):
            self.advice.say("No whole object in this tile: the halo cannot be judged here." if found.n_objects else "")
        elif matters:
            self.advice.say(
                f"Objects reach up to {times(found.extent)} voxels: the halo should be {times(self._halo)} or more, "
                f"and is {times(halo)}.",
                problem=True,
            )
        else:
            self.advice.say(f"Objects reach up to {times(found.extent)} voxels: the halo is large enough.")
        self.widen.setVisible(matters)
        self.keep.setEnabled(True)

    def show_seam(self, found: SeamPreview) -> None:
        """Report a preview of a seam."""
        merged = found.merged
        self.report.say(
            f"{merged.n_labels:,} labels on both sides become <b>{merged.n_objects:,} objects</b>: "
            f"{int(merged.joined.sum()):,} of {len(merged.seams):,} pairs at the seam are joined."
        )
        self.advice.say("Toggle “Seam: before the merge” in the layer list to compare.")
        self.widen.hide()
        self.keep.setEnabled(False)

    def outdate(self) -> None:
        """Take back the advice of a preview whose settings are no longer those of the form."""
        self.advice.say("")
        self.widen.hide()

    def fail(self, message: str) -> None:
        """Say why there is no preview."""
        self.report.say(message, problem=True)
        self.advice.say("")
        self.widen.hide()

    def _keep(self) -> None:
        self._kept.append(self._summary)
        self.kept.say("<br>".join(f"{chr(ord('A') + i % 26)}: {text}" for i, text in enumerate(self._kept)))
        self.keep.setEnabled(False)
        self.keep_wanted.emit()

    def _widen(self) -> None:
        self.widen.hide()
        self.halo_wanted.emit(self._halo)


def _memory(found: Preview) -> str:
    """What a preview took, and advice where that is nearly too much."""
    of = "" if found.limit_bytes is None else f" of {bytes_text(found.limit_bytes)}"
    text = f"the worker used {bytes_text(found.peak_bytes)}{of}."
    if found.tight:
        text += " A worker that needs more is ended: choose smaller tiles, a smaller batch or fewer workers."
    return f"{text}<br>Network: {found.footprint}." if found.footprint else text
