"""Decisions on two labels that the user clicks in the viewer."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_blockbuster.machine.units import count_text
from napari_blockbuster.merge.links import other_links
from napari_blockbuster.merge.pairs import described
from napari_blockbuster.widgets.clicks import ClickPicker
from napari_blockbuster.widgets.run.control.control import RunControl
from napari_blockbuster.widgets.runner import in_thread

from .descriptions import tiles_text

__all__ = ["LabelPicker"]

Label = tuple[int, int]
"""Tile, and number in the tile."""


class LabelPicker(QObject):
    """Joins or cuts two labels of the job of a `RunControl` after the user clicks them."""

    refused = Signal(str)
    """A click or a decision is not possible, and why."""
    said = Signal(str)
    """What to click next, or what was decided."""
    first_picked = Signal(int, int, object)
    """Tile and number of the first label, and the voxel that was clicked."""
    finished = Signal(object)
    """Both labels were clicked. The pair is decided on, lower tile first."""

    def __init__(self, viewer: Any, control: RunControl, parent: QObject) -> None:
        super().__init__(parent)
        self._control = control
        self._decision: str | None = None
        self._labels: list[Label] = []
        self._clicks = ClickPicker(viewer, self.pick_at)

    def start(self, decision: str) -> None:
        """Wait for two clicks, then decide "join" or "cut"; or for clicks on objects to "remove"."""
        self._decision, self._labels = decision, []
        self._clicks.turn(True)
        self.said.emit("Click the object to delete." if decision == "remove" else "Click the first object.")

    def stop(self) -> None:
        """Ignore further clicks."""
        self._decision, self._labels = None, []
        self._clicks.turn(False)
        self.said.emit("")

    def pick_at(self, world: Any) -> None:
        """Pick the label at a place in world coordinates. The second label completes the decision."""
        view, job = self._control.view, self._control.job
        if view is None or job is None or self._decision is None:
            return
        voxel = np.round(view.voxel_at(world)).astype(int)
        if (voxel < 0).any() or (voxel >= job.grid.shape).any():
            self.refused.emit("Click inside the image.")
            return
        tile = job.grid.tile_at(voxel)

        def read() -> Label:
            return tile.index, job.tiles.label_at(voxel)

        in_thread(read, lambda label: self._take(label, voxel), lambda error: self.refused.emit(str(error)), owner=self)

    def _take(self, label: Label, voxel: np.ndarray) -> None:
        decision = self._decision
        if decision is None:
            return
        if not label[1]:
            self.refused.emit("There is no object at this place. Click an object.")
            return
        if decision == "remove":
            self._remove(label)
            return
        self._labels.append(label)
        if len(self._labels) < 2:
            self.first_picked.emit(*label, voxel)
            self.said.emit(f"Label {label[1]:,} of tile {label[0]:,} is picked. Click the second object.")
            return
        (first, second), self._labels = sorted(self._labels), []
        problem = self._problem(decision, first, second)
        if problem:
            self.refused.emit(problem)
            self.said.emit("Click the first object.")
            return
        pair = first, second
        decisions = self._control.decisions
        self.finished.emit(pair)
        done = "Joined" if decision == "join" else "Cut"
        if decisions is not None and decisions.decision_on(pair) != decision:
            self._control.decide([pair], decision)
        else:
            done = f"{done} already:"
        self.said.emit(f"{done} {described(pair)}.")

    def _remove(self, label: Label) -> None:
        """Delete the object of a label: all of its labels become background."""
        merged = self._control.unfiltered
        if merged is None:
            self.refused.emit("There is no merge yet. Wait until the tiles are merged.")
            return
        labels = merged.labels_of(merged.object_of(*label))
        if not labels:
            self.refused.emit("This object is deleted already.")
            return
        self._control.remove(labels)
        self.said.emit(f"Deleted an object of {count_text(len(labels), 'label')}. Undo (U) brings it back.")

    def _problem(self, decision: str, first: Label, second: Label) -> str:
        """Return why a decision on two labels is not possible, or ""."""
        merged = self._control.unfiltered
        if merged is None:
            return "There is no merge yet. Wait until the tiles are merged."
        same = merged.object_of(*first) == merged.object_of(*second)
        if first == second or (decision == "cut" and first[0] == second[0]):
            if decision == "join":
                return "Both places are the same object already."
            return (
                f"Both places are in tile {first[0]}, and cuts are possible only at seams between tiles. "
                "To separate them, segment the tile again with other settings."
            )
        if decision == "join":
            return "Both places are the same object already." if same else ""
        if not same:
            return "These are two objects already."
        if merged.row_of((first, second)) is None:
            links = other_links(merged, (first, second))
            through = f", through {tiles_text(links)}" if links else ""
            return (
                f"These two labels do not touch: other labels join them{through}. "
                "Click two labels that touch, one on each side of a seam."
            )
        return ""
