"""Some tiles of a job segmented again with other settings, compared, accepted or put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QObject, Signal

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.job.job import Job
from napari_blockbuster.job.second_try import SecondTry
from napari_blockbuster.models import Model
from napari_blockbuster.stage.store import TileFailure
from napari_blockbuster.widgets.layers.placement import place_of_part
from napari_blockbuster.widgets.layers.viewer_layers import put_away, show_labels
from napari_blockbuster.widgets.run.control import RunControl
from napari_blockbuster.widgets.run.events import Status
from napari_blockbuster.widgets.run.steps import HEARTBEAT, summary_of

__all__ = ["SegmentAgain"]

AGAIN = "segmented again"
"""Kind of the labels layer."""


@dataclass(frozen=True)
class _Tried:
    tiles: list[int]
    box: Box
    labels: np.ndarray
    failures: list[TileFailure]


class SegmentAgain(QObject):
    """Serves one inspector. `tiles` are those of a second try that waits to be accepted."""

    changed = Signal()
    said = Signal(str)

    def __init__(self, viewer: Any, control: RunControl, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._control = viewer, control
        self._layer: Labels | None = None
        self._job: Job | None = None
        self._second: SecondTry | None = None
        self.tiles: list[int] = []
        control.changed.connect(self._job_changed)

    def _job_changed(self) -> None:
        # What another job tried is not offered to this one.
        if self._job is not None and self._control.job is not self._job:
            self.discard()

    def can_go_back(self, tiles: list[int]) -> bool:
        """Whether one of these tiles is from a second try."""
        return not self._control.again.isdisjoint(tiles)

    def start(self, tiles: list[int], model: Model) -> None:
        """Segment tiles again; what they find is shown in a layer of its own."""
        job, control = self._control.job, self._control
        if job is None or control.is_busy:
            self.said.emit("Pause the run first.")
            return
        self.discard()

        def produce() -> Iterator[Any]:
            yield Status("Starting workers…")
            client = control.client()
            yield Status(f"Segmenting {len(tiles)} tiles again")
            second = SecondTry(job)
            failures = []
            for event in second.stage(tiles, model, client, HEARTBEAT):
                if isinstance(event, TileFailure):
                    failures.append(event)
                if control.state == "pausing":
                    return
            yield second, _read(second, tiles, failures)

        control.launch("staging", produce, self._received)

    def _received(self, event: Any) -> None:
        second, tried = event
        view = self._control.view
        if tried.failures:
            first = tried.failures[0]
            self.said.emit(f"tile {first.index} failed with these settings: {first.error}: {first.message}")
        elif view is not None:
            self._job, self._second, self.tiles = self._control.job, second, tried.tiles
            place = place_of_part(view.place, tried.box.start)
            self._layer = show_labels(self._viewer, AGAIN, tried.labels, "Segmented again", opacity=0.7, **place)
        self.changed.emit()

    def accept(self) -> None:
        """Put the new tiles in the place of the old ones, and merge anew."""
        second, tiles = self._second, self.tiles
        if second is not None and tiles:

            def call() -> list[int]:
                second.accept(tiles)
                return tiles

            self._replace(call)

    def go_back(self, tiles: list[int]) -> None:
        """Put the tiles of the run back, with those that were accepted together with them, and merge anew."""
        job = self._control.job
        if job is None:
            return
        chosen = [index for index in tiles if index in self._control.again]
        self._replace(lambda: SecondTry(job).go_back(chosen))

    def _replace(self, call: Callable[[], list[int]]) -> None:
        """Change tiles in a thread, and show them; `call` returns which."""
        job, view, control = self._control.job, self._control.view, self._control
        assert job is not None
        assert view is not None
        self.discard()

        def produce() -> Iterator[Any]:
            for index in call():
                if job.store.is_staged(index):
                    view.live.land(job.grid[index], job.store.record(index).n_objects)
            if control.decisions is not None:
                control.decisions.refresh()
            yield summary_of(job)

        control.launch("staging", produce)

    def discard(self) -> None:
        """Forget a second try that was not accepted."""
        put_away(self._viewer, self._layer, AGAIN)
        self._layer, self._job, self._second, self.tiles = None, None, None, []
        self.changed.emit()


def _read(second: SecondTry, tiles: list[int], failures: list[TileFailure]) -> _Tried:
    """In a thread: the new labels of some tiles, numbered through all of them, in the box around them."""
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
    return _Tried(tiles, box, labels, failures)
