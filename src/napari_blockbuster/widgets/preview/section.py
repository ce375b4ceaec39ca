"""Preview section of the dock: one tile before the run, advice on the halo, estimates for the run."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QPushButton

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.job.preview import Estimate, Preview, SeamPreview
from napari_blockbuster.job.progress.bar import duration
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.widgets.controls import Fold, Note, Section, button, bytes_text, row_of, times
from napari_blockbuster.widgets.texts import voxels_name

from .control import TileFound

__all__ = ["PreviewSection"]


class PreviewSection(Section):
    """Buttons and report. `PreviewControl` does the work."""

    tile_wanted = Signal()
    seam_wanted = Signal()
    picking_wanted = Signal(bool)
    keep_wanted = Signal()
    halo_wanted = Signal(object)
    """Halo along each spatial axis that fits the objects of the preview."""

    def __init__(self) -> None:
        super().__init__("Preview")
        self.tile = button(
            "Preview tile (T)", "Segment the tile in the center of the view, with its halo.", self.tile_wanted.emit
        )
        self.pick = button("Pick a tile", "Click in the image to preview the tile there.", lambda: None)
        self.pick.setCheckable(True)
        self.pick.toggled.connect(self.picking_wanted.emit)
        self.seam = button(
            "Preview seam",
            "Segment the tile in the center of the view and a neighbor, and merge them.",
            self.seam_wanted.emit,
        )
        self.keep = button(
            "Keep to compare", "Keep this preview in the layer list to compare it with other settings.", self._keep
        )
        self.keep.setEnabled(False)
        for pair in ((self.tile, self.pick), (self.seam, self.keep)):
            self.form.addRow(row_of(*pair, equal=True))
        self.again = QCheckBox("Preview again when a setting changes")
        self.form.addRow(self.again)
        self.status = Note()
        self.report = Note()
        self._failed, self._result = False, ""
        self._found: TileFound | None = None
        self.advice = HaloAdvice()
        self.advice.use.clicked.connect(lambda *_: self.halo_wanted.emit(self.advice.halo))
        self._kept = KeptPreviews()
        for note in (self.status, self.report, self.advice, self.advice.use, self._kept):
            self.form.addRow(note)

    def add_more(self, more: Section, fold: Fold) -> None:
        """Add further settings below the report, folded."""
        self.form.addRow(fold)
        self.form.addRow(more)

    def say_busy(self, text: str) -> None:
        """Show what the preview does now; "" when it ended."""
        self.status.say(text)
        self._describe()

    def _describe(self) -> None:
        if self.status.plain:
            self.say_brief(self.status.plain)
        elif self._failed:
            self.say_brief(self.report.plain, problem=True)
        else:
            self.say_brief(self._result, problem=self.advice.is_problem)

    def set_ready(self, ready: bool) -> None:
        """Enable the buttons that start a preview."""
        for each in (self.tile, self.seam, self.pick):
            each.setEnabled(ready)

    def show_tile(self, event: TileFound, n_tiles: int) -> None:
        """Report the preview of a tile, and estimate a run of `n_tiles` tiles."""
        found = event.found
        self._found, self._failed = event, False
        self.advice.show_tile(event)
        self._kept.current = f"{event.settings}: {count_text(found.n_objects, 'object')}, {duration(found.seconds)}"
        self.keep.setEnabled(found.n_objects > 0)
        self._report_tile(n_tiles)

    def show_run(self, grid: TileGrid | None, n_tiles: int) -> None:
        """Estimate the run again for other tiles.

        Parameters
        ----------
        grid : TileGrid or None
        n_tiles : int
            Number of its tiles that are segmented.
        """
        if self._found is not None and self._found.grid == grid:
            self._report_tile(n_tiles)

    def _report_tile(self, n_tiles: int) -> None:
        assert self._found is not None
        found, run = self._found.found, self._found.estimate(n_tiles)
        n_objects = count_text(found.n_objects, "object")
        loading = f" (plus {duration(found.load_seconds)} to load)" if found.load_seconds > 1 else ""
        self.report.say(
            f"<b>{n_objects}</b> in the tile, {duration(found.seconds)}{loading}; {_memory(found)}<br>"
            f"{_run_text(run, len(self._found.grid))}",
            problem=found.tight,
        )
        self._result = f"{n_objects}; the run takes {duration(run.seconds)}"
        self._describe()

    def show_seam(self, found: SeamPreview) -> None:
        """Report the preview of a seam."""
        merged, self._found = found.merged, None
        self.report.say(
            f"{count_text(merged.n_labels, 'label')} on both sides become "
            f"<b>{count_text(merged.n_objects, 'object')}</b>: {int(merged.joined.sum()):,} of "
            f"{count_text(len(merged.seams), 'pair')} at the seam {'is' if len(merged.seams) == 1 else 'are'} joined."
        )
        self._failed, self._result = False, f"seam: {count_text(merged.n_objects, 'object')}"
        self._describe()
        self.advice.clear()
        self.advice.say("To compare, show and hide “Seam: before the merge” in the layer list.")
        self.keep.setEnabled(False)

    def clear_advice(self) -> None:
        """Remove the advice, and the reason of a failure, when the settings of the form changed."""
        self.advice.clear()
        if self._failed:
            self._failed = False
            self.report.say("")
        self._describe()

    def fail(self, message: str) -> None:
        """Report why there is no preview."""
        self._failed, self._found = True, None
        self.report.say(message, problem=True)
        self.advice.clear()
        self._describe()
        self.keep.setEnabled(False)

    def _keep(self) -> None:
        self._kept.add()
        self.keep.setEnabled(False)
        self.keep_wanted.emit()


class HaloAdvice(Note):
    """Advice on the halo. `use` is the button that applies it, `halo` the advised halo."""

    def __init__(self) -> None:
        super().__init__()
        self.halo: tuple[int, ...] = ()
        self.use = QPushButton("Use this halo")
        self.use.setToolTip("Set the halo to fit the objects of the preview.")
        self.use.clicked.connect(self.use.hide)
        self.use.hide()

    def show_tile(self, event: TileFound) -> None:
        """Compare the halo with the objects of a tile."""
        found, grid = event.found, event.grid
        frames = grid.separate_axes
        halo, n_cut = grid.halo[frames:], grid.grid_shape[frames:]
        elements = f"{voxels_name(len(halo))}s"
        is_short = any(e > h and n > 1 for e, h, n in zip(found.extent, halo, n_cut, strict=True))
        self.halo = tuple(max(h, e) if n > 1 else h for h, e, n in zip(halo, found.extent, n_cut, strict=True))
        self.use.setVisible(is_short)
        if not any(found.extent):
            text = "No object lies completely in this tile, so it gives no advice on the halo."
            self.say(text if found.n_objects else "")
        elif is_short:
            self.say(
                f"Objects are up to {times(found.extent)} {elements} large. The halo is {times(halo)}; "
                f"it should be {times(self.halo)} or more.",
                problem=True,
            )
        else:
            fits = "The halo is large enough." if any(n > 1 for n in n_cut) else "A single tile needs no halo."
            self.say(f"Objects are up to {times(found.extent)} {elements} large. {fits}")

    def clear(self) -> None:
        """Hide advice and button."""
        self.say("")
        self.use.hide()


class KeptPreviews(Note):
    """List of the previews that are kept to compare. `current` describes the preview that is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.current = ""
        self._texts: list[str] = []

    def add(self) -> None:
        """Add the current preview."""
        self._texts.append(self.current)
        self.say("<br>".join(f"{chr(ord('A') + i % 26)}: {text}" for i, text in enumerate(self._texts)))


def _run_text(run: Estimate, n_all: int) -> str:
    """Return what a run takes that segments some of all tiles."""
    n = run.n_tiles
    if not n:
        return "No tile is chosen."
    if n < n_all:
        tiles = f"1 of {n_all:,} tiles is chosen. It takes" if n == 1 else f"The {n:,} chosen of {n_all:,} tiles take"
    else:
        tiles = "The only tile takes" if n == 1 else f"All {n:,} tiles take"
    return f"{tiles} about <b>{duration(run.seconds)}</b> and at most {bytes_text(run.disk_bytes)} on disk."


def _memory(found: Preview) -> str:
    """Return the memory that a preview took, with advice if it is close to the limit."""
    of = "" if found.limit_bytes is None else f" of {bytes_text(found.limit_bytes)}"
    text = f"the worker used {bytes_text(found.peak_bytes)}{of}."
    if found.tight:
        text += " Workers that need more are killed. Choose smaller tiles, a smaller batch or fewer workers."
    return f"{text}<br>Network: {found.footprint}." if found.footprint else text
