"""The dock as napari makes it: one for each viewer, which comes back as it was after its cross was clicked."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from .dock import SegmentWidget

__all__ = ["SegmentDock"]


class SegmentDock:
    """Makes a `SegmentWidget`, or brings back the one that was taken out of its dock.

    The cross of a dock deletes the dock, not the widget in it: a run goes on, and its job stays locked. A second widget would
    know nothing of it.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __new__(cls, napari_viewer: Any) -> Any:
        for widget in QApplication.topLevelWidgets():
            if isinstance(widget, SegmentWidget) and widget.was_closed_in(napari_viewer):
                # Qt hid it when it lost its dock, and would leave it so in the next.
                QTimer.singleShot(0, widget.show)
                return widget
        return SegmentWidget(napari_viewer)

    def __init__(self, napari_viewer: Any) -> None:
        # Never called: napari reads from its signature that a viewer is wanted.
        raise NotImplementedError
