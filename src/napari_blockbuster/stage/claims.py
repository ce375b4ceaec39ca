"""Locks that let one process at a time segment a tile.

When a driver is killed, its workers still compute some tiles, and the next driver sends the same tiles again. The second process
waits and then finds the tile staged. The model runs once, and labels and bands come from the same run, also if the model is not
deterministic.

A claim is a lock of the operating system (``flock``), which is released when its process ends. Without such locks (Windows, some
network disks), a tile may run twice.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO

from napari_blockbuster.machine.patience import WaitWarning
from napari_blockbuster.machine.system import has_file_locks, lock_file

__all__ = ["Claim", "ClaimedError"]

LOOK = 0.2
"""Seconds between two attempts to take a claim that another process holds."""


SAID = 5.0
"""Seconds after which a waiting process says for whom it waits."""


class ClaimedError(RuntimeError):
    """Another process has held this tile for longer than the time limit of a tile."""


class Claim:
    """Claim on a tile, held by this process until `release`."""

    def __init__(self, path: Path, file: IO[bytes] | None) -> None:
        self._path, self._file = path, file

    @classmethod
    def take(cls, path: Path, is_done: Callable[[], bool], patience: float | None = None) -> Claim:
        """Claim a tile. Wait while another process holds it.

        Parameters
        ----------
        path : Path
            The file that is locked; its folder must exist.
        is_done : callable
            Returns whether the tile is staged, which ends the wait.
        patience : float, optional
            Most seconds to wait. Default: no limit.

        Raises
        ------
        ClaimedError
            If another process still holds the tile. The message names the process.
        OSError
            If the folder cannot be written.
        """
        began, told = time.monotonic(), False
        until = None if patience is None else began + patience
        while has_file_locks() and not is_done():
            # Unbuffered, so that a full disk causes no second error when the file is closed.
            file = open(path, "ab+", buffering=0)  # noqa: SIM115
            if (locked := lock_file(file)) and _is_at(path, file):
                _sign(file)
                return cls(path, file)
            if locked is None:
                file.close()
                path.unlink(missing_ok=True)
                break
            if not locked and until is not None and time.monotonic() > until:
                holder = _holder(file)
                file.close()
                raise ClaimedError(
                    f"{holder} has been working on this tile for more than {patience:g} s, for a driver that is gone. "
                    "End that process, and resume"
                )
            if not locked and not told and time.monotonic() - began > SAID:
                told = True
                message = f"Waiting for {_holder(file)}, which still works on a tile for another driver"
                warnings.warn(message, WaitWarning, stacklevel=2)
            file.close()
            # The holder has just removed the file: try again at once.
            time.sleep(0 if locked else LOOK)
        return cls(path, None)

    def release(self) -> None:
        """Release the tile. Has no effect if it is released already."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError), file:
                # Removed while it is locked: a waiting process then sees that the file at the path is another one.
                self._path.unlink()


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _sign(file: IO[bytes]) -> None:
    """Write the name of this process to the file, for the error message of a process that waits too long."""
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())


def _holder(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(200).decode(errors="replace") or "another process"
