"""Progress bar in napari's activity dock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.utils import cancelable_progress

from napari_blockbuster.widgets.run.control.events import StepProgress

__all__ = ["Activity"]


class _Bar(cancelable_progress):
    """Bar whose *Cancel* acts at once. napari's own acts only on a loop over the bar."""

    def cancel(self) -> None:
        super().cancel()
        if self.cancel_callback is not None:
            self.cancel_callback()


class Activity:
    """At most one progress bar. Use it in the GUI thread, as napari requires.

    Parameters
    ----------
    cancel : callable
        Called when the user cancels the step in the activity dock.
    """

    def __init__(self, cancel: Callable[[], object]) -> None:
        self._cancel = cancel
        self._bar: Any = None
        self._is_making = self._is_wanted = False

    def show(self, step: StepProgress, title: str = "Blockbuster") -> None:
        """Show progress; the first call adds the bar."""
        self._is_wanted = True
        if self._is_making:
            # napari handles other events while it adds a bar, and they may report progress.
            return
        if self._bar is None:
            self._is_making = True
            try:
                bar = _Bar(total=max(step.total, 1), desc=title, cancel_callback=self._cancel)
            finally:
                self._is_making = False
            if not self._is_wanted:
                bar.close()
                return
            self._bar = bar
        self._bar.update(step.done + step.failed - self._bar.n)

    def end(self) -> None:
        """Remove the bar."""
        self._is_wanted = False
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()
