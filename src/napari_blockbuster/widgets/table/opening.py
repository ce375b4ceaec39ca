"""Open the table of objects: one for each viewer. A closed dock is reopened with the same widget."""

from __future__ import annotations

from typing import Any

from napari_blockbuster.widgets.docks.bottom_docks import dock_below
from napari_blockbuster.widgets.docks.viewer_docks import OnceInViewer, widgets_of

from .object_table import ObjectTable

__all__ = ["NAME", "TableDock", "find_table", "show_table"]

NAME = "Object table (Blockbuster)"
"""Title of the dock and of its entry in the menu *Plugins*. napari finds an open dock by its title."""
HEIGHT = 340
"""Wished height of a new dock, in pixels."""


def find_table(viewer: Any) -> ObjectTable | None:
    """Return the table of a viewer, also if its dock was closed."""
    return next((widget for widget in widgets_of(viewer) if isinstance(widget, ObjectTable)), None)


class TableDock(OnceInViewer, ObjectTable):
    """`ObjectTable` of a viewer."""

    existing = staticmethod(find_table)


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
