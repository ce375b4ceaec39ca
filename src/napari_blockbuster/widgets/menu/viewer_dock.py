"""Dock of the plugin: one for each viewer. A closed dock is reopened with the same widget."""

from __future__ import annotations

from typing import Any

from napari_blockbuster.widgets.dock.segment_widget import SegmentWidget
from napari_blockbuster.widgets.docks.viewer_docks import OnceInViewer, widgets_of
from napari_blockbuster.widgets.layers.warming import warm_napari

__all__ = ["NAME", "SegmentDock", "find_widget"]

NAME = "Segment large image (Blockbuster)"
"""Title of the dock and of its entry in the menu *Plugins*. napari finds an open dock by its title."""


def find_widget(viewer: Any) -> SegmentWidget | None:
    """Return the widget of a viewer, also if its dock was closed; None if there is none.

    The close button of a dock deletes the dock but not its widget. The run continues, and its job stays locked. A second
    widget could not control that run.
    """
    for widget in widgets_of(viewer):
        if isinstance(widget, SegmentWidget) and (widget.was_docked or widget.parent() is not None):
            return widget
    return None


class SegmentDock(OnceInViewer, SegmentWidget):
    """`SegmentWidget` of a viewer."""

    existing = staticmethod(find_widget)

    def __init__(self, napari_viewer: Any) -> None:
        if "viewer" not in self.__dict__:
            warm_napari()
        super().__init__(napari_viewer)
