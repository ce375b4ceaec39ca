"""The dock of the plugin: one for each viewer. After its cross was clicked, it comes back as it was."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from .segment_widget import SegmentWidget

__all__ = ["NAME", "SegmentDock", "find_widget"]

NAME = "Segment large image (Blockbuster)"
"""Title of the dock, and of the entry in the menu *Plugins*: napari finds an open dock by it."""


def find_widget(viewer: Any) -> SegmentWidget | None:
    """Return the widget of a viewer, also if its dock was closed; None if there is none yet.

    The cross of a dock deletes the dock and not the widget in it: its run continues, and its job stays locked. A second
    widget would know nothing of it.
    """
    for widget in QApplication.allWidgets():
        known = isinstance(widget, SegmentWidget) and (widget.was_docked or widget.parent() is not None)
        if known and _plain(widget.viewer) is _plain(viewer):
            return widget
    return None


def _plain(viewer: Any) -> Any:
    """Return the viewer itself where napari hands out a proxy of it."""
    return getattr(viewer, "__wrapped__", viewer)


class SegmentDock(SegmentWidget):
    """The viewer's `SegmentWidget`: a new one, or the one that exists, taken out of the dock that it is in.

    napari's menus accept only widget classes and functions, and only a class receives the viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __new__(cls, napari_viewer: Any) -> Any:
        widget = find_widget(napari_viewer)
        if widget is None:
            return super().__new__(cls)
        if widget.parent() is not None:
            napari_viewer.window.remove_dock_widget(widget)
        # Qt hid it when it lost its dock, and would leave it so in the next.
        QTimer.singleShot(0, widget.show)
        return widget

    def __init__(self, napari_viewer: Any) -> None:
        if "viewer" not in self.__dict__:
            super().__init__(napari_viewer)
