"""Commands of the menus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import napari

__all__ = ["ask_job", "open_job", "show_segment_widget"]


def show_segment_widget(napari_viewer: napari.Viewer) -> Any:
    """Open the dock widget, or bring the open one to the front; returns it."""
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
    """Open the dock widget and ask for a job folder."""
    widget = show_segment_widget(napari_viewer)
    widget.ask_job()
    return widget


def open_job(napari_viewer: napari.Viewer, folder: str | Path) -> Any:
    """Open the dock widget with a job; returns it."""
    widget = show_segment_widget(napari_viewer)
    widget.open_job(folder)
    return widget
