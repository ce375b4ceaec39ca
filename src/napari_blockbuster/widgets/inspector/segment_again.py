"""Segment tiles of a job again with other settings; accept the result, or restore the original tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QObject, Signal

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.job.job import Job
from napari_blockbuster.job.steps.second_try import SecondTry
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.models import Model
from napari_blockbuster.stage.store import TileFailure
from napari_blockbuster.widgets.layers.placement import place_of_part
from napari_blockbuster.widgets.layers.viewer_layers import put_away, show_labels
from napari_blockbuster.widgets.run.control.control import RunControl
from napari_blockbuster.widgets.run.control.events import Status
from napari_blockbuster.widgets.run.control.steps import HEARTBEAT, read_tiles, staging_outcome

__all__ = ["SegmentAgain"]

AGAIN = "segmented again"
"""Kind of labels layer."""


@dataclass(frozen=True)
class _NewLabels:
    tiles: list[int]
    box: Box
    labels: np.ndarray
    failures: list[TileFailure]
    n_before: int
    n_now: int


class SegmentAgain(QObject):
    """Second try of the job of a `RunControl`.

    Attributes
    ----------
    tiles : list of int
        Tiles that were segmented again and wait to be accepted.
    accepted : list of int
        Tiles of the last acceptance.
    """

    changed = Signal()
    said = Signal(str)
    """Progress or result; "" when there is nothing to say."""
    replacing = Signal()
    """Tiles are about to be replaced. Their labels get other numbers."""
    refused = Signal(str)
    """A step is not possible or failed, and why."""

    def __init__(self, viewer: Any, control: RunControl, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._control = viewer, control
        self._layer: Labels | None = None
        self._job: Job | None = None
        self._second: SecondTry | None = None
        self.tiles: list[int] = []
        self.accepted: list[int] = []
        self._runs = False
        self._hidden: Labels | None = None
        control.status.connect(self._status)
        control.changed.connect(self._job_changed)

    def _job_changed(self) -> None:
        # A second try belongs to its job.
        if self._job is not None and self._control.job is not self._job:
            self.discard()
        if self._runs and not self._control.is_busy:
            # It was paused or failed: there is no result.
            self._runs = False
            self.said.emit("")

    def _status(self, text: str) -> None:
        if self._runs:
            self.said.emit(text)

    def can_restore(self, tiles: list[int]) -> bool:
        """Whether one of these tiles was segmented again."""
        return not self._control.again.isdisjoint(tiles)

    def start(self, tiles: list[int], model: Model) -> None:
        """Segment tiles again, and show their labels in a layer of their own."""
        job, control = self._control.job, self._control
        if job is None or control.is_busy:
            self.refused.emit("Pause the run first.")
            return
        self.discard()
        title = f"Segmenting {count_text(len(tiles), 'tile')} again"

        def produce() -> Iterator[Any]:
            yield Status("Starting workers…")
            client = control.client()
            yield Status(f"{title}: measuring the image…")
            second, failures, n_done = SecondTry(job), [], 0
            for event in second.stage(tiles, model, client, HEARTBEAT):
                if isinstance(event, TileFailure):
                    failures.append(event)
                n_done += event is not None
                yield Status(f"{title}: {n_done:,} done")
                if control.state == "pausing":
                    return
            yield second, _read(job, second, tiles, failures)

        self._runs = True
        control.launch("staging", produce, self._received)

    def _received(self, event: Any) -> None:
        second, tried = event
        view = self._control.view
        self._runs = False
        self.said.emit("")
        self._control.status.emit(f"Segmented {count_text(len(tried.tiles), 'tile')} again")
        if tried.failures:
            first = tried.failures[0]
            reason = f"{first.error}: {first.message}"
            self.refused.emit(f"Tile {first.index:,} failed with these settings ({reason}). Change them and try again.")
        elif view is not None:
            self._job, self._second, self.tiles = self._control.job, second, tried.tiles
            place = place_of_part(view.place, tried.box.start)
            self._layer = show_labels(self._viewer, AGAIN, tried.labels, "Segmented again", opacity=0.7, **place)
            self._hide_old()
            self.said.emit(
                f"{count_text(tried.n_before, 'label')} before, {tried.n_now:,} now. Accept or discard them. "
                "The labels before are hidden in the layer list."
            )
        self.changed.emit()

    def _hide_old(self) -> None:
        """Hide the labels of the job. Under the new ones they would look like them."""
        layer = self._control.view.labels if self._control.view is not None else None
        if layer is not None and layer.visible:
            layer.visible = False
            self._hidden = layer

    def accept(self) -> None:
        """Replace the tiles with the new ones, and merge."""
        second, tiles = self._second, self.tiles
        if second is not None and tiles:

            def call() -> list[int]:
                second.accept(tiles)
                return tiles

            self.accepted = list(tiles)
            self._replace(call)

    def restore(self, tiles: list[int]) -> None:
        """Restore the original tiles, with all tiles that were accepted together with them, and merge."""
        job = self._control.job
        if job is None:
            return
        chosen = [index for index in tiles if index in self._control.again]
        self._replace(lambda: SecondTry(job).go_back(chosen))

    def _replace(self, call: Callable[[], list[int]]) -> None:
        """Replace tiles in a thread, and show them. `call` returns the tiles that it replaced."""
        job, view, control = self._control.job, self._control.view, self._control
        assert job is not None
        assert view is not None
        self.discard()
        self.replacing.emit()

        def produce() -> Iterator[Any]:
            yield from read_tiles(view.live, list(call()), lambda: False)
            if control.decisions is not None:
                control.decisions.refresh()
            yield staging_outcome(job)

        control.launch("staging", produce)

    def discard(self) -> None:
        """Discard a second try that was not accepted."""
        put_away(self._viewer, self._layer, AGAIN)
        if self._hidden is not None:
            self._hidden.visible = True
            self._hidden = None
        self.said.emit("")
        self._layer, self._job, self._second, self.tiles = None, None, None, []
        self.changed.emit()


def _read(job: Job, second: SecondTry, tiles: list[int], failures: list[TileFailure]) -> _NewLabels:
    """Read the new labels of tiles, numbered through all tiles, in the box around them. For a thread."""
    grid = second.store.grid
    cores = [grid[index].core for index in tiles]
    box = Box(
        tuple(min(core.start[a] for core in cores) for a in range(grid.ndim)),
        tuple(max(core.stop[a] for core in cores) for a in range(grid.ndim)),
    )
    labels = np.zeros(box.shape, np.int32)
    offset = 0
    for index in tiles:
        if not second.store.is_staged(index):
            continue
        local = second.store.read_labels(grid[index]).result().astype(np.int32)
        labels[grid[index].core.within(box)] = np.where(local > 0, local + offset, 0)
        offset += second.store.record(index).n_objects
    n_before = sum(job.tiles.record(index).n_objects for index in tiles if job.tiles.is_staged(index))
    return _NewLabels(tiles, box, labels, failures, n_before, offset)
