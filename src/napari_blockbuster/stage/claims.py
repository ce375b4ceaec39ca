"""One process at a time on a tile, whichever driver sent it there.

A driver that is killed leaves tiles that its workers still compute, and the driver that follows sends the same ones again.
The second process waits, and then finds the tile staged: its model has run once, and labels and bands are those of one
run, also where a model gives other labels each time.

The claim is a lock of the operating system (``flock``), which ends with its process, however that ends. Where there is none
(Windows, some network disks), a tile in flight may run twice.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from napari_blockbuster.machine.system import has_file_locks, lock_file

__all__ = ["Claim", "ClaimedError"]

LOOK = 0.2
"""Seconds between two looks at a claim that another process holds."""


class ClaimedError(RuntimeError):
    """Another process has worked on this tile for longer than a tile may take."""


class Claim:
    """A tile that is this process's own until `release`."""

    def __init__(self, path: Path, file: IO[bytes] | None) -> None:
        self._path, self._file = path, file

    @classmethod
    def take(cls, path: Path, is_done: Callable[[], bool], patience: float | None = None) -> Claim:
        """Claim a tile; while another process has it, wait.

        Parameters
        ----------
        path : Path
            The file that is locked; its folder must exist.
        is_done : callable
            Whether the tile is done: then there is nothing to wait for.
        patience : float, optional
            Seconds to wait at most. Default: as long as it takes.

        Raises
        ------
        ClaimedError
            Naming the process that has the tile.
        OSError
            If the folder cannot be written.
        """
        until = None if patience is None else time.monotonic() + patience
        while has_file_locks() and not is_done():
            # Unbuffered: a full disk must not be heard of again when the file is closed.
            file = open(path, "ab+", buffering=0)  # noqa: SIM115
            if (locked := lock_file(file)) and _is_at(path, file):
                _sign(file)
                return cls(path, file)
            if locked is None:
                file.close()
                path.unlink(missing_ok=True)
                break
            if not locked and until is not None and time.monotonic() > until:
                raise ClaimedError(_held_by(file, patience))
            file.close()
            # A file that its holder has just removed is locked anew at once.
            time.sleep(0 if locked else LOOK)
        return cls(path, None)

    def release(self) -> None:
        """Give the tile back; a no-op the second time."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError), file:
                # Removed while it is locked: whoever waits for it sees that it is another file than the one at its path.
                self._path.unlink()


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _sign(file: IO[bytes]) -> None:
    """Note whose it is, for the message of whoever waits too long."""
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())


def _held_by(file: IO[bytes], patience: float | None) -> str:
    with file:
        file.seek(0)
        holder = file.read(200).decode(errors="replace") or "another process"
    return (
        f"{holder} has been working on this tile for more than {patience:g} s, for a driver that is gone; "
        "end that process, and resume"
    )
