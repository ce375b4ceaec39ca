"""Widgets that a viewer has once. A closed dock is reopened with the same widget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QWidget

__all__ = ["OnceInViewer", "widgets_of"]


def widgets_of(viewer: Any) -> Iterator[QWidget]:
    """Yield the widgets that belong to a viewer by their attribute ``viewer``, also those whose dock was closed."""
    for widget in QApplication.allWidgets():
        if _plain(getattr(widget, "viewer", None)) is _plain(viewer):
            yield widget


def _plain(viewer: Any) -> Any:
    """Return the viewer behind a proxy of napari."""
    return getattr(viewer, "__wrapped__", viewer)


class OnceInViewer:
    """First base of a dock's class: a new widget of the viewer, or the existing one without its dock.

    napari's menus accept only widget classes and functions, and only a class receives the viewer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    @staticmethod
    def existing(viewer: Any) -> QWidget | None:
        """Return the widget that the viewer has; None if it has none."""
        raise NotImplementedError

    def __new__(cls, napari_viewer: Any) -> Any:
        widget = cls.existing(napari_viewer)
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
