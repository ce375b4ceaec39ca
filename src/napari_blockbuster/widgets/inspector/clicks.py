"""Clicks in the viewer that choose a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["ClickPicker"]

STEADY = 4
"""Pixels that a click may move; more is a drag, which moves the camera."""


class ClickPicker:
    """While it is on, tells of each click its place in world coordinates.

    Parameters
    ----------
    viewer : napari.Viewer
    picked : callable
    """

    def __init__(self, viewer: Any, picked: Callable[[Any], None]) -> None:
        self._viewer, self._tell = viewer, picked

    def turn(self, on: bool) -> None:
        """Start or stop listening."""
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
            self._tell(event.position)
