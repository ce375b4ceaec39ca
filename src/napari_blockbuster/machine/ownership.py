"""Ownership of a folder that several processes want to change: the one place that checks it.

A process that was stopped (a laptop asleep, a stalled disk) does not know that its lock was taken over. A check right before a
change is not enough: the process may be stopped between the two. Therefore every change that cannot be undone is a rename
from or into a private folder of the owner, next to the lock. Whoever takes the lock over first moves that folder away. Each
later rename of the former owner then fails, at the disk, whenever it continues. This needs neither locks of the operating
system nor an exchange of two names.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import TakenOverError
from .files import beside, create_folders
from .processes import ProcessIdentity
from .system import replace, sync

__all__ = ["Owner", "read_holder"]

PRIVATE = ".own"


def read_holder(lock: Path) -> dict[str, Any] | None:
    """Return the content of a lock file; None if it is missing or cannot be read."""
    try:
        with open(lock, "rb", buffering=0) as file:
            holder = json.loads(file.read())
    except (OSError, ValueError):
        return None
    return holder if isinstance(holder, dict) else None


@dataclass(frozen=True)
class Owner:
    """The ownership of a folder by one process for a while, also for workers that act for it. Small and picklable.

    Attributes
    ----------
    lock : Path
        The lock file.
    token : str
        Drawn each time a lock is taken; it is in the lock file.
    """

    lock: Path
    token: str

    @functools.cached_property
    def private(self) -> Path:
        """The private folder. It exists while the ownership lasts."""
        return beside(self.lock, f".{self.token[:16]}{PRIVATE}")

    # -------------------------------------------------------------------------------------------------------- checking
    def check(self) -> None:
        """Raise `TakenOverError` if another process has taken the folder over.

        A disk that is away is no reason: whatever comes next fails by itself.
        """
        if self.is_over():
            raise self.taken_over()

    def is_over(self) -> bool:
        """Whether another process has taken the folder over."""
        holder = read_holder(self.lock)
        if holder is not None and holder.get("token") != self.token:
            return True
        return not os.path.lexists(self.private) and os.path.lexists(self.lock.parent)

    def taken_over(self) -> TakenOverError:
        """Return the error that names the present owner."""
        found = ProcessIdentity.parse(read_holder(self.lock) or {})
        by = "another process, which has ended," if found is None else str(found)
        return TakenOverError(
            f"{self.lock.parent} was taken over by {by} while this one was asleep. This process stopped, and changed nothing "
            "after that. To see what the job is now, use `napari-blockbuster info`."
        )

    # -------------------------------------------------------------------------------------------------------- changing
    def write(self, path: Path, data: bytes, *, durable: bool = True, below: Path | None = None) -> None:
        """Write a file completely or not at all, unless the folder was taken over.

        Parameters
        ----------
        path : Path
            On the same disk as the lock.
        data : bytes
        durable : bool, default True
            Also survive a power failure.
        below : Path, optional
            See `napari_blockbuster.machine.files.write_atomically`.

        Raises
        ------
        TakenOverError
            Then the file is as it was.
        """
        temporary = self.private / uuid.uuid4().hex
        with self._noticing():
            try:
                with open(temporary, "wb") as file:
                    file.write(data)
                    if durable:
                        sync(file)
                self.check()
                self._put(temporary, path, below)
            except OSError:
                # An incomplete file takes space on a full disk.
                temporary.unlink(missing_ok=True)
                raise

    def _put(self, temporary: Path, path: Path, below: Path | None) -> None:
        try:
            replace(temporary, path)
        except FileNotFoundError:
            # The first file of a folder, unless the private folder is gone.
            if below is None or not os.path.lexists(temporary):
                raise
            create_folders(path, below)
            self.check()
            replace(temporary, path)

    def remove(self, path: Path) -> None:
        """Delete a file or folder, if it exists, completely or not at all, unless the folder was taken over.

        Raises
        ------
        TakenOverError
            Then it is as it was.
        """
        if not os.path.lexists(path):
            return
        doomed = self.private / uuid.uuid4().hex
        with self._noticing():
            self.check()
            try:
                os.rename(path, doomed)
            except FileNotFoundError:
                if os.path.lexists(path) or not os.path.lexists(self.private):
                    raise
                return
        if doomed.is_dir() and not doomed.is_symlink():
            shutil.rmtree(doomed, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                doomed.unlink()

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        """Turn an error of a private folder that was moved away into the error that says so."""
        try:
            yield
        except OSError as error:
            if self.is_over():
                raise self.taken_over() from error
            raise

    # ---------------------------------------------------------------------------------------------------- begin and end
    def begin(self) -> bool:
        """Move the private folders of all former owners away. Return whether this process owns the folder now.

        Call it once the lock file holds the token. False: the lock file was taken in the meantime; call `end` and try again.
        """
        self.private.mkdir()
        for former in self.lock.parent.glob(f"{_pattern(self.lock)}{PRIVATE}"):
            if former != self.private:
                with contextlib.suppress(FileNotFoundError):
                    self.remove(former)
        return not self.is_over()

    def end(self) -> None:
        """Give up the lock file, if it is still this owner's, and the private folder."""
        if not self.is_over() and read_holder(self.lock) is not None:
            with contextlib.suppress(OSError):
                os.rename(self.lock, self.private / "lock")
        shutil.rmtree(self.private, ignore_errors=True)


def _pattern(lock: Path) -> str:
    return beside(lock, f".{'?' * 16}").name
