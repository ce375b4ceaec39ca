"""Client of a dask scheduler. Imported when a connection is made, because dask takes long to import."""

from __future__ import annotations

import contextlib
from typing import Any

import distributed

__all__ = ["Client"]


class Client(distributed.Client):
    """A client that leaves nothing behind if it cannot connect.

    A client of dask whose connection fails keeps its thread until the garbage collector closes it. If that happens while
    another client starts its thread, both need the same lock, and the process hangs forever.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        except BaseException:
            with contextlib.suppress(Exception):
                self.close(timeout=2)  # type: ignore[no-untyped-call]
            with contextlib.suppress(Exception):
                self._loop_runner.stop()
            raise
