"""The worker's side of a cluster run."""

from __future__ import annotations

import threading
from typing import Any

import cloudpickle
from distributed import get_worker
from distributed.diagnostics.plugin import WorkerPlugin

__all__ = ["WorkPlugin", "do"]


class WorkPlugin(WorkerPlugin):
    """Carries a work to every worker, also to those that join or restart during the run."""

    def __init__(self, name: str, blob: bytes) -> None:
        self.name = name
        self._blob = blob
        self._work: Any = None
        self._lock = threading.Lock()

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


def do(name: str, item: int, payload: Any) -> Any:
    """Do one item of a registered work in this worker; what it raises becomes its result."""
    plugin = get_worker().plugins[name]
    assert isinstance(plugin, WorkPlugin)
    work = plugin.work
    try:
        return work(item, payload)()
    except Exception as error:
        return work.lost(item, error)
