"""Seams from the dock: rings on doubtful pairs, one after the other, and the inspector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_blockbuster.models import Model
from napari_blockbuster.widgets.run.control import RunControl
from napari_blockbuster.widgets.run.merge_section import MergeSection

from .inspector import SeamInspector, release_keys

__all__ = ["SeamActions"]


class SeamActions:
    """What the buttons about seams in the merge section do."""

    def __init__(
        self, viewer: Any, control: RunControl, section: MergeSection, model: Callable[[], Model | None]
    ) -> None:
        self._viewer, self._control, self._section, self._model = viewer, control, section, model
        self._pair = -1
        self._dock: Any = None
        self.inspector: SeamInspector | None = None

    def bind_keys(self) -> None:
        """N and Shift+N step through the pairs; the inspector takes the keys over while it is open."""
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
        """Open the inspector below the viewer, or bring it back."""
        inspector = self.inspector
        if inspector is None:
            inspector = self.inspector = SeamInspector(self._viewer, self._control, self._model)
            inspector.opened.connect(self._give_way)
            inspector.destroyed.connect(self._gone)
            inspector.bind_keys()
        if inspector.parent() is None:
            # New, or taken out of its dock by the dock's ✕, which napari deletes.
            self._dock = self._viewer.window.add_dock_widget(
                inspector, name="Merge inspector", area="bottom", tabify=False
            )
        self._dock.show()
        return inspector

    def _give_way(self, opened: bool) -> None:
        """Keys and rings are the inspector's while it is open."""
        if opened and self.inspector is not None:
            self.inspector.bind_keys()
            return
        release_keys(self._viewer)
        self.bind_keys()
        if self._section.seams.isChecked():
            self.show(True)

    def _gone(self) -> None:
        self.inspector = None
        release_keys(self._viewer)
        self.bind_keys()
