"""The progress bar in napari's activity dock."""

from __future__ import annotations

from typing import Any

from napari.utils import progress

from .events import Progress

__all__ = ["Activity"]


class Activity:
    """One bar at a time. For the GUI thread, where napari wants its bars to be made."""

    def __init__(self) -> None:
        self._bar: Any = None

    def show(self, step: Progress) -> None:
        """Move the bar; it appears when it is first moved."""
        if self._bar is None:
            self._bar = progress(total=step.total, desc="Blockbuster")
        self._bar.n = step.done + step.failed
        self._bar.refresh()

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
