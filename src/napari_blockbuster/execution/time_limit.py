"""A time limit that also holds for code which never returns to Python: the process is ended, and says where it was."""

from __future__ import annotations

import contextlib
import faulthandler
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["TileTimeoutError", "say_if_it_hung", "time_limit"]


class TileTimeoutError(RuntimeError):
    """A tile took longer than its time limit; the worker that ran it was ended."""


_running: dict[int, tuple[float, IO[str]]] = {}
_lock = threading.Lock()


@contextlib.contextmanager
def time_limit(seconds: float, note: Path) -> Iterator[None]:
    """End this process if the block takes longer, leaving the traceback of every thread in `note`.

    Whoever gets the work next finds the note (`say_if_it_hung`). The clock is a C thread of its own
    (`faulthandler`), because the code that hangs may hold the GIL. For worker processes only.
    """
    try:
        with open(note, "w", encoding="utf-8") as file:
            key = id(file)
            with _lock:
                _running[key] = (time.monotonic() + seconds, file)
                _arm()
            try:
                yield
            finally:
                with _lock:
                    del _running[key]
                    _arm()
    finally:
        # Only once it is closed: not every system deletes a file that is open.
        note.unlink(missing_ok=True)


def _arm() -> None:
    """Set the one clock that a process has for the block that ends first (a worker may run several)."""
    faulthandler.cancel_dump_traceback_later()
    if _running:
        until, file = min(_running.values(), key=lambda running: running[0])
        faulthandler.dump_traceback_later(max(0.01, until - time.monotonic()), exit=True, file=file)


def say_if_it_hung(seconds: float, note: Path) -> None:
    """Raise `TileTimeoutError` if an earlier attempt left a note; the note is used up.

    Raises
    ------
    TileTimeoutError
        With the traceback of the process that was ended.
    """
    try:
        text = note.read_text("utf-8", errors="replace")
        note.unlink()
    except FileNotFoundError:
        return
    if not text.strip():
        # Its process died by something else.
        return
    error = TileTimeoutError(
        f"no result within the time limit of {seconds:g} s; the worker was ended. "
        "If the tile is merely slow, give it more time (tile_timeout=, --tile-timeout)"
    )
    error.add_note(text)
    raise error
