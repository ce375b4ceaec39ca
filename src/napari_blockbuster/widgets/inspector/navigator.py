"""What the inspector does in viewer and threads: fly to a pair, draw it, look for alarms, pick objects by clicking."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_blockbuster.inspect.alarms import Alarm, find_alarms
from napari_blockbuster.inspect.seam_report import SeamReport, seam_report
from napari_blockbuster.merge.mapping import Merge
from napari_blockbuster.widgets.run.control import RunControl
from napari_blockbuster.widgets.run.runner import in_thread, stream

from .clicks import ClickPicker
from .pair_view import PairPixels, PairView, read_pair

__all__ = ["Inspecting"]


class Inspecting(QObject):
    """Serves one `SeamInspector`. Answers of threads that come too late are dropped."""

    alarms_found = Signal(list)
    report_found = Signal(object)
    said = Signal(str)
    """Why something could not be done."""
    picked = Signal()
    """Two labels were clicked, and the verdict on them is given."""

    def __init__(self, viewer: Any, control: RunControl, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._control = viewer, control
        self.merged: Merge | None = None
        self._pair = PairView(viewer)
        self._alarms: list[Alarm] = []
        self._looks = self._searches = 0
        self._picking: str | None = None
        self._picked: list[tuple[int, int]] = []
        self._clicks = ClickPicker(viewer, self.pick_at)

    # ------------------------------------------------------------------------------------------------------ looking
    def look(self, row: int, fly: bool = True) -> None:
        """Fly to a pair, and draw its two labels and the seam between them."""
        view, job, merged = self._control.view, self._control.job, self.merged
        if view is None or job is None or merged is None:
            return
        if fly:
            view.look_at(merged.seams["position"][row])
        self._looks += 1
        number = self._looks

        def show(pixels: PairPixels) -> None:
            if number == self._looks and self._control.view is view:
                self._pair.show(pixels, view.place)

        in_thread(lambda: read_pair(job, merged, row), show, lambda error: self.said.emit(str(error)), owner=self)

    def look_at_alarm(self, alarm: Alarm) -> None:
        """Fly to an alarm; draw its pair, if it names one that meets at a seam."""
        view, merged = self._control.view, self.merged
        if view is None or merged is None:
            return
        row = None if alarm.pair is None else merged.row_of(alarm.pair)
        if row is None:
            self._looks += 1
            self._pair.clear()
            view.look_at(alarm.place)
        else:
            self.look(row)

    def show_rings(self, rows: np.ndarray) -> None:
        """Rings on the pairs that are listed."""
        if self._control.view is not None and self.merged is not None:
            self._control.view.show_seams(self.merged, rows)

    def alarm(self, line: int) -> Alarm | None:
        """The alarm of a line of the list."""
        return self._alarms[line] if 0 <= line < len(self._alarms) else None

    def look_for_alarms(self) -> None:
        """Look for what a pair alone cannot show, in a thread; then say what the seams did to the objects."""
        # Pairs are listed as they were before the filter; alarms are about the objects that it keeps.
        job, merged = self._control.job, self._control.merged
        if job is None or merged is None:
            return
        self._searches += 1
        number = self._searches
        names = job.source.axes if job.source is not None else None

        def search() -> Any:
            yield find_alarms(merged, job.grid, job.store)
            if number == self._searches:
                yield seam_report(merged, job.store, names=names)

        def found(event: list[Alarm] | SeamReport) -> None:
            if number != self._searches:
                return
            if isinstance(event, list):
                self._alarms = event
                self.alarms_found.emit(event)
            else:
                self.report_found.emit(event)

        stream(search, found, None, lambda error: self.said.emit(str(error)), owner=self)

    def clear(self) -> None:
        """Take away what was drawn."""
        self._looks += 1
        self._pair.clear()
        if self._control.view is not None:
            self._control.view.hide_seams()

    # ------------------------------------------------------------------------------------------------------ picking
    def pick(self, verdict: str | None) -> None:
        """Take the next two clicks in the viewer as the two labels of a verdict; None stops."""
        self._picking, self._picked = verdict, []
        self._clicks.turn(verdict is not None)

    def pick_at(self, world: Any) -> None:
        """Pick the label at a place in world coordinates; the second one completes the verdict."""
        view, job, verdict = self._control.view, self._control.job, self._picking
        if view is None or job is None or verdict is None:
            return
        voxel = np.round(view.voxel_at(world)).astype(int)
        if (voxel < 0).any() or (voxel >= job.grid.shape).any():
            self.said.emit("Click inside the image.")
            return
        tile = job.grid.tile_at(voxel)

        def read() -> tuple[int, int]:
            place = tuple(slice(int(v), int(v) + 1) for v in voxel)
            return tile.index, int(job.store.labels[place].read().result().ravel()[0])

        in_thread(read, self._take, lambda error: self.said.emit(str(error)), owner=self)

    def _take(self, label: tuple[int, int]) -> None:
        verdict = self._picking
        if verdict is None:
            return
        if not label[1]:
            self.said.emit("There is no object at this place; click on one.")
            return
        self._picked.append(label)
        if len(self._picked) < 2:
            return
        (first, second), self._picked = sorted(self._picked), []
        problem = self._problem(verdict, first, second)
        if problem:
            self.said.emit(problem)
            return
        self.picked.emit()
        self._control.decide([(first, second)], verdict)

    def _problem(self, verdict: str, first: tuple[int, int], second: tuple[int, int]) -> str:
        """Why a verdict on two clicked labels cannot be given; "" if it can."""
        merged = self.merged
        assert merged is not None
        same = merged.object_of(*first) == merged.object_of(*second)
        if first == second or (verdict == "cut" and first[0] == second[0]):
            return (
                f"Both places are in tile {first[0]}, where the model drew them: a cut follows the seam between two tiles. "
                "Segment the tile again with other settings to part them."
                if verdict == "cut"
                else "Both places are the same object already."
            )
        if verdict == "join":
            return "Both places are the same object already." if same else ""
        if not same:
            return "These are two objects already."
        row = merged.row_of((first, second))
        if row is None or not merged.joined[row]:
            return "These two parts do not meet: they are joined through others. Click the two parts on both sides of a seam."
        return ""
