"""Docks below the viewer. They share one place as tabs: side by side, they would make the window wider than the screen."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QWidget

__all__ = ["dock_below"]

MOST_SHARE = 0.36
"""Share of the window's height that a new dock takes at most."""


def dock_below(viewer: Any, widget: QWidget, name: str, height: int) -> Any:
    """Add a dock below the viewer, as a tab of the dock that is there already, and return it.

    Parameters
    ----------
    viewer : napari.Viewer
    widget : QWidget
    name : str
        Title of the dock.
    height : int
        Wished height in pixels. Docks never grow the window, and most of it is left to the image.
    """
    dock = viewer.window.add_dock_widget(widget, name=name, area="bottom", tabify=False)
    # A plugin gets a proxy of the window and of the dock, which Qt does not take.
    window, inner = widget.window(), widget.parent()
    for other in window.findChildren(QDockWidget):
        is_below = window.dockWidgetArea(other) == Qt.BottomDockWidgetArea
        if other is not inner and is_below and not other.isFloating() and not other.isHidden():
            window.tabifyDockWidget(other, inner)
            break
    else:
        window.resizeDocks([inner], [min(height, round(window.height() * MOST_SHARE))], Qt.Vertical)
    dock.show()
    dock.raise_()
    return dock
