"""Control of a running step from other threads: cancel it, or change the order of its tiles."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.job.progress.performance import Performance

__all__ = ["Control"]


class Control:
    """Thread-safe control of the step that a job runs.

    Attributes
    ----------
    canceled : threading.Event
        Set to stop the step.
    queue : TileQueue or None
        The tiles that still have to be staged; None while nothing is staged.
    performance : Performance
        How well the present or the last staging run uses the model.
    """

    def __init__(self) -> None:
        self.canceled = threading.Event()
        self.queue: TileQueue | None = None
        self.performance = Performance()

    def prefer(self, tiles: Iterable[int]) -> None:
        """Run these tiles next."""
        if (queue := self.queue) is not None:
            queue.prefer(tiles)

    def taken(self) -> set[int]:
        """Return the tiles that were sent to a worker, those that landed included."""
        return set() if (queue := self.queue) is None else queue.taken()

    def sent(self, start: int) -> list[int]:
        """Return the tiles in the order in which they were sent to workers, without the first `start`."""
        return [] if (queue := self.queue) is None else queue.sent(start)
