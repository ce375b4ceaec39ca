"""Seam buttons of the dock: rings on pairs, next doubtful pair, inspector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_blockbuster.models import Model
from napari_blockbuster.widgets.docks.bottom_docks import dock_below
from napari_blockbuster.widgets.run.control.control import RunControl
from napari_blockbuster.widgets.run.merge_section import MergeSection

from .inspector import SeamInspector
from .keys import release_keys

__all__ = ["SeamActions"]

WISHED_HEIGHT = 240


class SeamActions:
    """Connects the seam buttons of the merge section to the viewer."""

    def __init__(
        self, viewer: Any, control: RunControl, section: MergeSection, model: Callable[[], Model | None]
    ) -> None:
        self._viewer, self._control, self._section, self._model = viewer, control, section, model
        self._pair = -1
        self._dock: Any = None
        self.inspector: SeamInspector | None = None

    def bind_keys(self) -> None:
        """Bind N and Shift+N to next and previous pair. The inspector takes these keys while it is open."""
        self._viewer.bind_key("n", lambda _: self.step(1), overwrite=True)
        self._viewer.bind_key("Shift-n", lambda _: self.step(-1), overwrite=True)

    def show(self, on: bool) -> None:
        """Show or hide the rings."""
        view, merged = self._control.view, self._control.merged
        if view is None or merged is None:
            return
        if on:
            view.show_seams(merged)
            self._pair = -1
        else:
            view.hide_seams()
            self._section.pair.say("")

    def step(self, by: int) -> None:
        """Fly to the next or previous doubtful pair."""
        view = self._control.view
        if view is None or self._control.merged is None:
            return
        if view.seams is None:
            self._section.seams.setChecked(True)
        if view.seams is None or not len(view.seams.data):
            self._section.pair.say("There are no pairs of labels at the seams.")
            return
        self._pair = (self._pair + by) % len(view.seams.data)
        self._section.pair.say(view.show_pair(self._pair))

    def inspect(self) -> SeamInspector:
        """Open the inspector below the viewer, or show it again."""
        inspector = self.inspector
        if inspector is None:
            inspector = self.inspector = SeamInspector(self._viewer, self._control, self._model)
            inspector.opened.connect(self._inspector_opened)
            inspector.destroyed.connect(self._inspector_deleted)
            inspector.keys.bind()
        if inspector.parent() is None:
            # It is new, or the user closed its dock, which napari then deletes.
            self._dock = dock_below(self._viewer, inspector, "Merge inspector", WISHED_HEIGHT)
        self._dock.show()
        self._dock.raise_()
        return inspector

    def _inspector_opened(self, opened: bool) -> None:
        """Leave keys and rings to the inspector while it is open."""
        if opened and self.inspector is not None:
            self.inspector.keys.bind()
            return
        release_keys(self._viewer)
        self.bind_keys()
        if self._section.seams.isChecked():
            self.show(True)

    def _inspector_deleted(self) -> None:
        self.inspector = None
        release_keys(self._viewer)
        self.bind_keys()
