"""Work in a thread of which only the latest request counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject

from napari_blockbuster.widgets.runner import in_thread

__all__ = ["Latest"]


class Latest(QObject):
    """Runs one call at a time in a thread. While one runs, only the latest request is kept, and run next.

    Parameters
    ----------
    parent : QObject
    on_error : callable
        Receives the error of a call.
    """

    def __init__(self, parent: QObject, on_error: Callable[[Exception], None]) -> None:
        super().__init__(parent)
        self._on_error = on_error
        self._next: tuple[Callable[[], Any], Callable[[Any], None]] | None = None
        self._generation = 0
        self.is_busy = False

    def ask(self, call: Callable[[], Any], on_result: Callable[[Any], None]) -> None:
        """Run a call, and pass its result on unless a later request replaces it."""
        self._generation += 1
        if self.is_busy:
            self._next = call, on_result
            return
        self._start(call, on_result)

    def forget(self) -> None:
        """Drop the result of the call that runs, and the request that waits."""
        self._generation += 1
        self._next = None

    def _start(self, call: Callable[[], Any], on_result: Callable[[Any], None]) -> None:
        self.is_busy = True
        generation = self._generation

        def current(receive: Callable[[Any], None]) -> Callable[[Any], None]:
            return lambda value: receive(value) if generation == self._generation else None

        in_thread(call, current(on_result), current(self._on_error), self._done, owner=self)

    def _done(self) -> None:
        self.is_busy = False
        waiting, self._next = self._next, None
        if waiting is not None:
            self._start(*waiting)
