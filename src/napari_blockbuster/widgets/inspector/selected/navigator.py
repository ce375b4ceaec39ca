"""Camera and layers of the inspector: fly to pairs and alarms, and draw them."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_blockbuster.inspect.alarm import Alarm
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.pairs import PairOfLabels
from napari_blockbuster.widgets.run.control.control import RunControl
from napari_blockbuster.widgets.runner import in_thread

from .pair_view import PairPixels, PairView, read_far_pair, read_label, read_pair

__all__ = ["PairNavigator"]


class PairNavigator(QObject):
    """Flies to pairs of a merge, and shows them in layers.

    Attributes
    ----------
    merged : Merge or None
        The merge whose pairs are listed.
    """

    failed = Signal(str)
    """A pair could not be read, and why."""

    def __init__(self, viewer: Any, control: RunControl, parent: QObject) -> None:
        super().__init__(parent)
        self._control = control
        self.merged: Merge | None = None
        self._pair = PairView(viewer)
        self._requests = 0

    def look(self, pair: PairOfLabels, fly: bool = True) -> None:
        """Fly to a pair, and draw its two labels and the seam between them."""
        view, job, merged = self._control.view, self._control.job, self.merged
        if view is None or job is None or merged is None:
            return
        row = merged.row_of(pair)
        if fly and row is not None:
            view.look_at(merged.seams["position"][row])
        self._requests += 1
        request = self._requests

        def show(pixels: PairPixels) -> None:
            # The answer to an earlier request comes too late.
            if request == self._requests and self._control.view is view:
                self._pair.show(pixels, view.place)
                if fly and row is None:
                    view.look_at(pixels.middle)

        def read() -> PairPixels:
            return read_far_pair(job, pair) if row is None else read_pair(job, merged, row)

        in_thread(read, show, lambda error: self.failed.emit(str(error)), owner=self)

    def show_label(self, tile: int, label: int, voxel: np.ndarray) -> None:
        """Draw the label that was clicked first, in blue."""
        view, job = self._control.view, self._control.job
        if view is None or job is None:
            return
        self._requests += 1
        request = self._requests

        def show(pixels: PairPixels) -> None:
            if request == self._requests and self._control.view is view:
                self._pair.show(pixels, view.place)

        in_thread(
            lambda: read_label(job, tile, label, voxel), show, lambda error: self.failed.emit(str(error)), owner=self
        )

    def look_at_alarm(self, alarm: Alarm) -> None:
        """Fly to an alarm. Draw its pair if the pair meets at a seam."""
        view, merged = self._control.view, self.merged
        if view is None or merged is None:
            return
        if alarm.pair is None or merged.row_of(alarm.pair) is None:
            self.forget_pair()
            view.look_at(alarm.place)
        else:
            self.look(alarm.pair)

    def show_rings(self, rows: np.ndarray) -> None:
        """Draw rings on pairs."""
        if self._control.view is not None and self.merged is not None:
            self._control.view.show_seams(self.merged, rows)

    def forget_pair(self) -> None:
        """Remove the layers of the pair."""
        self._requests += 1
        self._pair.clear()

    def clear(self) -> None:
        """Remove the layers."""
        self.forget_pair()
        if self._control.view is not None:
            self._control.view.hide_seams()
