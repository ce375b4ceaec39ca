"""Clicks in the viewer that choose a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["ClickPicker"]

STEADY = 4
"""Pixels that the mouse may move during a click. A longer way is a drag, which moves the camera."""


class ClickPicker:
    """Reports clicks in the viewer while it is on.

    Parameters
    ----------
    viewer : napari.Viewer
    picked : callable
        Called with the world coordinates of each click.
    """

    def __init__(self, viewer: Any, picked: Callable[[Any], None]) -> None:
        self._viewer, self._picked = viewer, picked

    def turn(self, on: bool) -> None:
        """Start or stop reporting clicks."""
        callbacks = self._viewer.mouse_drag_callbacks
        if on and self._clicked not in callbacks:
            callbacks.append(self._clicked)
        elif not on and self._clicked in callbacks:
            callbacks.remove(self._clicked)

    def _clicked(self, viewer: Any, event: Any) -> Any:
        start = tuple(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if max(abs(a - b) for a, b in zip(start, event.pos, strict=True)) < STEADY:
            self._picked(event.position)
