"""Open the table of objects: one for each viewer. A closed dock is reopened with the same widget."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_blockbuster.widgets.bottom_docks import dock_below

from .object_table import ObjectTable

__all__ = ["NAME", "TableDock", "find_table", "show_table"]

NAME = "Object table (Blockbuster)"
"""Title of the dock and of its entry in the menu *Plugins*. napari finds an open dock by its title."""
HEIGHT = 340
"""Wished height of a new dock, in pixels."""


def _plain(viewer: Any) -> Any:
    """Return the viewer behind a proxy of napari."""
    return getattr(viewer, "__wrapped__", viewer)


def find_table(viewer: Any) -> ObjectTable | None:
    """Return the table of a viewer, also if its dock was closed."""
    for widget in QApplication.allWidgets():
        if isinstance(widget, ObjectTable) and _plain(widget.viewer) is _plain(viewer):
            return widget
    return None


class TableDock(ObjectTable):
    """`ObjectTable` of a viewer: a new one, or the existing one without its dock.

    napari's menus accept only widget classes and functions, and only a class receives the viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __new__(cls, napari_viewer: Any) -> Any:
        widget = find_table(napari_viewer)
        if widget is None:
            return super().__new__(cls)
        if widget.parent() is not None:
            napari_viewer.window.remove_dock_widget(widget)
        # Qt hides a widget that loses its dock, and does not show it in the next one.
        QTimer.singleShot(0, widget.show)
        return widget

    def __init__(self, napari_viewer: Any) -> None:
        if "viewer" not in self.__dict__:
            super().__init__(napari_viewer)


def show_table(viewer: Any) -> ObjectTable:
    """Open the table below the viewer, or show it again."""
    widget = find_table(viewer)
    if widget is None or widget.parent() is None:
        widget = TableDock(viewer)
        dock_below(viewer, widget, NAME, HEIGHT)
    dock = widget.parent()
    dock.show()
    dock.raise_()
    return widget
