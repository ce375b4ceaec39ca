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
from napari_blockbuster.widgets.run.control import RunControl
from napari_blockbuster.widgets.run.events import Status
from napari_blockbuster.widgets.run.steps import HEARTBEAT, read_tiles, staging_outcome

__all__ = ["SegmentAgain"]

AGAIN = "segmented again"
"""Kind of labels layer."""


@dataclass(frozen=True)
class _NewLabels:
    tiles: list[int]
    box: Box
    labels: np.ndarray
    failures: list[TileFailure]


class SegmentAgain(QObject):
    """Second try of the job of a `RunControl`.

    Attributes
    ----------
    tiles : list of int
        Tiles that were segmented again and wait to be accepted.
    """

    changed = Signal()
    refused = Signal(str)
    """A step is not possible or failed, and why."""

    def __init__(self, viewer: Any, control: RunControl, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._control = viewer, control
        self._layer: Labels | None = None
        self._job: Job | None = None
        self._second: SecondTry | None = None
        self.tiles: list[int] = []
        control.changed.connect(self._job_changed)

    def _job_changed(self) -> None:
        # A second try belongs to its job.
        if self._job is not None and self._control.job is not self._job:
            self.discard()

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

        def produce() -> Iterator[Any]:
            yield Status("Starting workers…")
            client = control.client()
            yield Status(f"Segmenting {count_text(len(tiles), 'tile')} again")
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
            reason = f"{first.error}: {first.message}"
            self.refused.emit(f"Tile {first.index:,} failed with these settings ({reason}). Change them and try again.")
        elif view is not None:
            self._job, self._second, self.tiles = self._control.job, second, tried.tiles
            place = place_of_part(view.place, tried.box.start)
            self._layer = show_labels(self._viewer, AGAIN, tried.labels, "Segmented again", opacity=0.7, **place)
        self.changed.emit()

    def accept(self) -> None:
        """Replace the tiles with the new ones, and merge."""
        second, tiles = self._second, self.tiles
        if second is not None and tiles:

            def call() -> list[int]:
                second.accept(tiles)
                return tiles

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

        def produce() -> Iterator[Any]:
            yield from read_tiles(view.live, list(call()), lambda: False)
            if control.decisions is not None:
                control.decisions.refresh()
            yield staging_outcome(job)

        control.launch("staging", produce)

    def discard(self) -> None:
        """Discard a second try that was not accepted."""
        put_away(self._viewer, self._layer, AGAIN)
        self._layer, self._job, self._second, self.tiles = None, None, None, []
        self.changed.emit()


def _read(second: SecondTry, tiles: list[int], failures: list[TileFailure]) -> _NewLabels:
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
    return _NewLabels(tiles, box, labels, failures)
