"""Progress bar in napari's activity dock."""

from __future__ import annotations

from typing import Any

from napari.utils import progress

from .events import StepProgress

__all__ = ["Activity"]


class Activity:
    """One progress bar at a time. Use it in the GUI thread, as napari requires."""

    def __init__(self) -> None:
        self._bar: Any = None

    def show(self, step: StepProgress) -> None:
        """Show progress; the first call adds the bar."""
        if self._bar is None:
            self._bar = progress(total=step.total, desc="Blockbuster")
        self._bar.n = step.done + step.failed
        self._bar.refresh()

    def end(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
