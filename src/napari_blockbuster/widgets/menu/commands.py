"""Commands of napari's menus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import napari

__all__ = ["ask_job", "open_job", "show_object_table", "show_segment_widget"]


def show_segment_widget(napari_viewer: napari.Viewer) -> Any:
    """Show the dock widget in front of other docks, and return it."""
    from .viewer_dock import NAME, SegmentDock, find_widget

    widget = find_widget(napari_viewer)
    if widget is None or widget.parent() is None:
        widget = SegmentDock(napari_viewer)
        napari_viewer.window.add_dock_widget(widget, name=NAME)
    dock = widget.parent()
    dock.show()
    dock.raise_()
    return widget


def ask_job(napari_viewer: napari.Viewer) -> Any:
    """Show the dock widget, ask for a job folder, and return the widget."""
    widget = show_segment_widget(napari_viewer)
    widget.ask_job()
    return widget


def open_job(napari_viewer: napari.Viewer, folder: str | Path) -> Any:
    """Open a job in the dock widget, and return the widget."""
    widget = show_segment_widget(napari_viewer)
    widget.open_job(folder)
    return widget


def show_object_table(napari_viewer: napari.Viewer) -> Any:
    """Show the table of objects below the viewer, and return it."""
    from napari_blockbuster.widgets.table.opening import show_table

    return show_table(napari_viewer)
