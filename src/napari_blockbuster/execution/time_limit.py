"""Time limit for code that may never return to Python: the process is ended, and leaves a traceback."""

from __future__ import annotations

import contextlib
import faulthandler
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["TileTimeoutError", "raise_if_it_hung", "time_limit", "timeout_error"]


class TileTimeoutError(RuntimeError):
    """A tile exceeded its time limit, and its worker was ended."""


_running: dict[int, tuple[float, IO[str]]] = {}
_lock = threading.Lock()


@contextlib.contextmanager
def time_limit(seconds: float, note: Path) -> Iterator[None]:
    """End this process if the block takes longer, and leave the traceback of every thread in `note`.

    The next attempt reads the note (`raise_if_it_hung`). The timer is a C thread (`faulthandler`), because the code that hangs
    may hold the GIL. For worker processes only.
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
        # After the file is closed: some systems cannot delete an open file.
        note.unlink(missing_ok=True)


def _arm() -> None:
    """Set the only timer of the process for the block that ends first (a worker may run several)."""
    faulthandler.cancel_dump_traceback_later()
    if _running:
        until, file = min(_running.values(), key=lambda running: running[0])
        faulthandler.dump_traceback_later(max(0.01, until - time.monotonic()), exit=True, file=file)


def raise_if_it_hung(seconds: float, note: Path) -> None:
    """Raise `TileTimeoutError` and delete the note if an earlier attempt left one.

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
        # The process died for another reason.
        return
    error = timeout_error(seconds)
    error.add_note(text)
    raise error


def timeout_error(seconds: float) -> TileTimeoutError:
    """Return the error for a tile that exceeded its time limit."""
    return TileTimeoutError(
        f"no result within the time limit of {seconds:g} s. The worker was ended. "
        "If the tile is merely slow, give it more time (tile_timeout=, --tile-timeout)"
    )
