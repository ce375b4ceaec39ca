"""The part of a cluster run that runs on workers."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import cloudpickle
from distributed import get_worker, secede
from distributed.diagnostics.plugin import WorkerPlugin

from .serialization import shallow
from .turns import in_turn

__all__ = ["NotAdmitted", "WorkPlugin", "do", "finish_work"]


class NotAdmitted:
    """Result of an item that dask moved to a worker that has not passed the checks."""


class WorkPlugin(WorkerPlugin):
    """Brings a work to every worker, also to workers that join or restart during the run.

    Attributes
    ----------
    admitted : bool
        Whether this worker has passed the checks.
    """

    def __init__(self, name: str, blob: bytes) -> None:
        self.name = name
        self.admitted = False
        self._blob = blob
        self._work: Any = None
        self._lock = threading.Lock()
        self._running = 0
        self._stopped = False

    def __getstate__(self) -> tuple[str, bytes]:
        return self.name, self._blob

    def __setstate__(self, state: tuple[str, bytes]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    @property
    def work(self) -> Any:
        with self._lock:
            if self._work is None:
                self._work = cloudpickle.loads(self._blob)
            return self._work

    def begin(self) -> None:
        """Count an item that starts. Raise `WorkStoppedError` if the run has ended."""
        with self._lock:
            if self._stopped:
                raise WorkStoppedError
            self._running += 1

    def end(self) -> None:
        """Count an item that has ended."""
        with self._lock:
            self._running -= 1

    def stop(self) -> None:
        """Start no more items."""
        with self._lock:
            self._stopped = True

    def teardown(self, worker: Any) -> None:
        """Start no more items: the run has ended. Called by dask."""
        self.stop()

    def check(self) -> None:
        """Raise `WorkStoppedError` after `stop`."""
        if self._stopped:
            raise WorkStoppedError

    @property
    def is_idle(self) -> bool:
        """Whether no item is running."""
        return not self._running


class WorkStoppedError(RuntimeError):
    """A task reached a worker after its run had ended."""


async def finish_work(name: str, seconds: float, dask_worker: Any = None) -> bool:
    """Start no more items of a work on this worker, and wait for running items. Return whether they ended in time."""
    plugin = dask_worker.plugins.get(name)
    if not isinstance(plugin, WorkPlugin):
        return True
    plugin.stop()
    until = time.monotonic() + seconds
    while not plugin.is_idle and time.monotonic() < until:
        await asyncio.sleep(0.02)
    return plugin.is_idle


def do(name: str, item: int, payload: Any) -> Any:
    """Do one item of a registered work in this worker. An exception becomes the item's result, or ends the run."""
    plugin = get_worker().plugins[name]
    assert isinstance(plugin, WorkPlugin)
    if not plugin.admitted:
        return NotAdmitted()
    work = plugin.work
    plugin.begin()
    try:
        return _phases(plugin, item, payload)
    except WorkStoppedError:
        raise
    except Exception as error:
        try:
            return work.lost(item, error)
        except Exception as fatal:
            raise shallow(fatal) from fatal.__cause__
    finally:
        plugin.end()


def _phases(plugin: WorkPlugin, item: int, payload: Any) -> Any:
    work = plugin.work
    prepared = work.prepare(item, payload)
    if not work.takes_turns:
        return work(item, prepared)()
    try:
        # While the model computes, the next task gets the thread of this one, to prepare its item.
        finish = in_turn(plugin.check, secede, work, item, prepared)
    except WorkStoppedError:
        work.drop(prepared)
        raise
    # Not kept alive while the next item uses the model.
    del prepared
    return finish()
