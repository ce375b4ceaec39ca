"""Docks below the viewer. They share one place as tabs: side by side, they would make the window wider than the screen."""

from __future__ import annotations

from functools import partial
from typing import Any

from qtpy.compat import isalive
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QWidget

__all__ = ["dock_below"]

MOST_SHARE = 0.36
"""Share of the window's height that a new dock takes at most."""
ENOUGH = 0.9
"""Share of the wished height that is enough."""
SPLITTER = 10
"""Pixels between two docks, at most."""


def dock_below(viewer: Any, widget: QWidget, name: str, height: int) -> Any:
    """Add a dock below the viewer, as a tab of the dock that is there already, and return it.

    Parameters
    ----------
    viewer : napari.Viewer
    widget : QWidget
    name : str
        Title of the dock.
    height : int
        Wished height in pixels. Most of the window is left to the image.

    Notes
    -----
    In a low window the docks on the left need their height, and leave little to a dock below them. The new dock then begins
    beside them. If it is too wide for that, the window grows downwards, at most to the edge of the screen.
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
        wished = min(height, round(window.height() * MOST_SHARE))
        window.resizeDocks([inner], [wished], Qt.Vertical)
        # Its height is known after the layout.
        QTimer.singleShot(0, partial(_make_room, inner, wished))
    dock.show()
    dock.raise_()
    return dock


def _make_room(dock: Any, height: int) -> None:
    """Give a dock the height that the docks on the left leave no room for."""
    if not isalive(dock):
        return
    window = dock.window()
    missing = height - dock.height()
    if dock.isFloating() or missing <= (1 - ENOUGH) * height:
        return
    beside = [d for d in window.findChildren(QDockWidget) if window.dockWidgetArea(d) == Qt.LeftDockWidgetArea]
    taken = max((each.width() for each in beside if each.isVisible()), default=0) + SPLITTER
    if dock.width() - taken >= dock.minimumSizeHint().width():
        window.setCorner(Qt.BottomLeftCorner, Qt.LeftDockWidgetArea)
    elif not (window.isMaximized() or window.isFullScreen()):
        room = window.screen().availableGeometry().bottom() - window.frameGeometry().bottom()
        window.resize(window.width(), window.height() + max(0, min(missing, room)))
    QTimer.singleShot(0, lambda: window.resizeDocks([dock], [height], Qt.Vertical) if isalive(dock) else None)
