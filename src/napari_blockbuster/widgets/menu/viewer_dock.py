"""Dock of the plugin: one for each viewer. A closed dock is reopened with the same widget."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_blockbuster.widgets.dock.segment_widget import SegmentWidget
from napari_blockbuster.widgets.layers.warming import warm_napari

__all__ = ["NAME", "SegmentDock", "find_widget"]

NAME = "Segment large image (Blockbuster)"
"""Title of the dock and of its entry in the menu *Plugins*. napari finds an open dock by its title."""


def find_widget(viewer: Any) -> SegmentWidget | None:
    """Return the widget of a viewer, also if its dock was closed; None if there is none.

    The close button of a dock deletes the dock but not its widget. The run continues, and its job stays locked. A second
    widget could not control that run.
    """
    for widget in QApplication.allWidgets():
        known = isinstance(widget, SegmentWidget) and (widget.was_docked or widget.parent() is not None)
        if known and _plain(widget.viewer) is _plain(viewer):
            return widget
    return None


def _plain(viewer: Any) -> Any:
    """Return the viewer behind a proxy of napari."""
    return getattr(viewer, "__wrapped__", viewer)


class SegmentDock(SegmentWidget):
    """`SegmentWidget` of a viewer: a new one, or the existing one without its dock.

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
        # Qt hides a widget that loses its dock, and does not show it in the next one.
        QTimer.singleShot(0, widget.show)
        return widget

    def __init__(self, napari_viewer: Any) -> None:
        if "viewer" not in self.__dict__:
            warm_napari()
            super().__init__(napari_viewer)
