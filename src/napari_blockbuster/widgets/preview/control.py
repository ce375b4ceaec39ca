"""Run previews of a tile or a seam in the background, and show them as layers."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QObject, Signal

from napari_blockbuster.geometry.tiles import Box, TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.job.preview import Estimate, Preview, SeamPreview, estimate, preview_seam, preview_tile
from napari_blockbuster.models import Model
from napari_blockbuster.models.planes import prepared_on
from napari_blockbuster.output.result import job_folder
from napari_blockbuster.widgets.choices.plan import Plan, changed_settings
from napari_blockbuster.widgets.layers.of_image.origins import as_shown, is_held
from napari_blockbuster.widgets.layers.placement import place_of_part
from napari_blockbuster.widgets.layers.viewer_layers import put_away, show_labels
from napari_blockbuster.widgets.runner import stream
from napari_blockbuster.widgets.session import Session

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["PreviewControl", "TileFound"]

PREVIEW = "preview"
"""Kind of the labels layers."""


@dataclass(frozen=True)
class TileFound:
    """Preview of a tile, and what an estimate for the run needs."""

    found: Preview
    grid: TileGrid
    n_workers: int
    settings: str

    def estimate(self, n_tiles: int) -> Estimate:
        """Estimate a run of so many of the tiles."""
        return estimate(self.found, self.grid, self.n_workers, n_tiles)


@dataclass(frozen=True)
class _SeamFound:
    found: SeamPreview


class PreviewControl(QObject):
    """Runs one preview at a time. A new preview cancels the running one."""

    busy = Signal(str)
    """Text for the status line; "" when the preview ended."""
    tile_found = Signal(object)
    """A `TileFound`."""
    seam_found = Signal(object)
    """A `napari_blockbuster.job.preview.SeamPreview`."""
    failed = Signal(str)

    def __init__(self, viewer: Any, session: Session, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._session = viewer, session
        self._turn = _Turn()
        self._prepared: tuple[ImageSource | None, dict[str, Model]] = None, {}
        self._shown: list[Labels] = []
        self._kept = 0
        self._last: TileFound | None = None
        turn = self._turn
        self.destroyed.connect(lambda *_: turn.next())

    # ----------------------------------------------------------------------------------------------------- requests
    def preview(self, plan: Plan, index: int, place: dict[str, Any]) -> None:
        """Segment one tile and show its labels."""
        grid = plan.grid()

        def produce(stale: Callable[[], bool]) -> Iterator[Any]:
            model, client = yield from self._ready(plan)
            yield f"Segmenting {grid[index]}…"
            found = preview_tile(as_shown(plan.source), model, grid, index, client, cancelled=stale)
            if found is not None:
                yield TileFound(found, grid, max(1, len(client.nthreads())), _brief(plan.model))

        self._launch(produce, place)

    def preview_seam(self, plan: Plan, tiles: tuple[int, int], place: dict[str, Any]) -> None:
        """Segment two tiles, merge them, and show the labels before and after the merge."""
        grid = plan.grid()

        def produce(stale: Callable[[], bool]) -> Iterator[Any]:
            model, client = yield from self._ready(plan)
            yield "Segmenting both tiles…"
            # Workers on other machines can reach the output folder, but not temporary files of this machine.
            parent = job_folder(Path(plan.output)).parent if plan.cluster.address else None
            folder = Path(tempfile.mkdtemp(prefix="blockbuster-seam-", dir=parent))
            try:
                yield _SeamFound(
                    preview_seam(
                        as_shown(plan.source), model, grid, tiles, folder, client=client, **plan.merge.options()
                    )
                )
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        self._launch(produce, place)

    def cancel(self) -> None:
        """Cancel the running preview."""
        self._turn.next()
        self.busy.emit("")

    def _launch(self, produce: Callable[[Callable[[], bool]], Iterator[Any]], place: dict[str, Any]) -> None:
        turn, number = self._turn, self._turn.next()

        def stale() -> bool:
            return turn.number != number

        def receive(event: Any) -> None:
            if stale():
                return
            if isinstance(event, str):
                self.busy.emit(event)
            elif isinstance(event, TileFound):
                self._show_tile(event, place)
            elif isinstance(event, _SeamFound):
                self._show_seam(event.found, place)

        def fail(error: Exception) -> None:
            if not stale():
                # The labels of other settings would look like those that failed.
                self._last = None
                self.clear()
                self.failed.emit(f"{error}" if str(error) else type(error).__name__)

        stream(lambda: produce(stale), receive, lambda: None if stale() else self.busy.emit(""), fail, self)

    def _ready(self, plan: Plan) -> Generator[str, None, tuple[Model, Client]]:
        """Return the prepared model and the cluster. Yields status texts. Runs in a thread."""
        yield "Reading the image…"
        model = self._prepare(plan)
        yield "Starting workers…"
        return model, self._session.client(plan.cluster)

    def _prepare(self, plan: Plan) -> Model:
        """Return the model after it measured the whole image. Measures once for each image and settings."""
        # Compare the image and not its id(): the id can be reused once the image is deleted.
        source, known = self._prepared
        if source is not plan.source:
            known = {}
            self._prepared = plan.source, known
        if is_held(plan.source):
            # Pixels in memory may have been edited.
            return prepared_on(plan.model, as_shown(plan.source))
        key = json.dumps(plan.model.settings(), sort_keys=True)
        if key not in known:
            known[key] = prepared_on(plan.model, plan.source)
        return known[key]

    # ------------------------------------------------------------------------------------------------------ showing
    def _show_tile(self, event: TileFound, place: dict[str, Any]) -> None:
        found = event.found
        self._last = event
        self.clear()
        self._show(found.halo, found.tile.read, place, "Preview: in the halo", 0.3)
        self._show(found.core, found.tile.core, place, "Preview", 0.7)
        self.tile_found.emit(event)

    def _show_seam(self, found: SeamPreview, place: dict[str, Any]) -> None:
        self._last = None
        self.clear()
        self._show(found.before, found.box, place, "Seam: before the merge", 0.7)
        self._shown[0].visible = False
        self._show(found.after, found.box, place, "Seam: merged", 0.7)
        self.seam_found.emit(found)

    def _show(self, data: np.ndarray, box: Box, place: dict[str, Any], name: str, opacity: float) -> None:
        moved = place_of_part(place, box.start)
        self._shown.append(show_labels(self._viewer, PREVIEW, data, name, opacity=opacity, **moved))

    def keep(self) -> TileFound | None:
        """Keep the layers of the last preview under another name."""
        last, self._last = self._last, None
        if last is None:
            return None
        self._kept += 1
        letter = chr(ord("A") + (self._kept - 1) % 26)
        for layer, part in zip(self._shown, (" (halo)", ""), strict=True):
            layer.name = f"{letter}: {last.settings}{part}"
            layer.visible = False
        self._shown = []
        return last

    def hide(self) -> None:
        """Hide the layers of the last preview."""
        for layer in self._shown:
            layer.visible = False

    def clear(self) -> None:
        """Remove the layers of the last preview."""
        for layer in self._shown:
            put_away(self._viewer, layer, PREVIEW)
        self._shown = []


class _Turn:
    """Number of the current preview. Threads use it to detect that they are stale. It outlives the widget."""

    def __init__(self) -> None:
        self.number = 0

    def next(self) -> int:
        self.number += 1
        return self.number


def _brief(model: Model) -> str:
    """Return the settings that differ from the defaults, as short text."""
    settings = changed_settings(model).items()
    return ", ".join([model.family, *(f"{name.replace('_', ' ')} {value}" for name, value in settings)])
