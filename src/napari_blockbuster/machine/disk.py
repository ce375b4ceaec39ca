"""Storage errors. They end the run, because every other tile would fail too.

`napari_blockbuster.machine.system` has the calls to the operating system, this module the meaning of their errors.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import JobError
from .system import refuses_to_replace

__all__ = ["StoreError", "damage_named", "errno_of", "finish_writes", "writing_to"]

_FULL = ("disk full", "free disk space")
_QUOTA = ("disk quota used up", "free disk space or ask for more")
_LOCKED = ("read-only", "make the folder writable")
_GONE = ("job folder gone", "reconnect its disk")
_OTHER = ("disk error", "fix the problem")
_REASONS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _QUOTA,
    errno.EROFS: _LOCKED,
    errno.EACCES: _LOCKED,
    errno.EPERM: _LOCKED,
    errno.ENOENT: _GONE,
    errno.ENOTDIR: _GONE,
    errno.ESTALE: _GONE,
    errno.ENODEV: _GONE,
    errno.ENOTCONN: _GONE,
}
_WORDS = {"RESOURCE_EXHAUSTED: ": errno.ENOSPC, "PERMISSION_DENIED: ": errno.EACCES}
"""First words of errors of tensorstore."""


class StoreError(JobError):
    """A job folder or an output cannot be read or written.

    Attributes
    ----------
    reason, remedy : str
        A few words each.
    detail : str
        The file, and the message of the system.
    kept : str
        The part of the work that is safe.
    """

    def __init__(self, reason: str, remedy: str, detail: str, kept: str = "") -> None:
        # All of them are arguments of the exception, so that it can be pickled in a worker.
        super().__init__(reason, remedy, detail, kept)
        self.reason, self.remedy, self.detail, self.kept = reason, remedy, detail, kept

    @classmethod
    def of(cls, error: BaseException, folder: Path) -> StoreError:
        """Return the storage error for an exception of the file system or of tensorstore."""
        reason, remedy = _REASONS.get(errno_of(error) or 0, _OTHER)
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return cls(reason, remedy, f"{folder}: {first[:300]}")

    def keeping(self, kept: str) -> StoreError:
        """Return the same error with the part of the work that is safe."""
        return StoreError(self.reason, self.remedy, self.detail, kept)

    def __str__(self) -> str:
        happened = f"{self.reason}: {self.kept}" if self.kept else self.reason
        return f"{happened}. {self.remedy[:1].upper()}{self.remedy[1:]}, then resume ({self.detail})"


def errno_of(error: BaseException | None) -> int | None:
    """Return the error number of the system behind an exception, if there is one.

    tensorstore has it in its message. If the message was truncated, the first word is used.
    """
    while error is not None:
        text = str(error)
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        if found := re.search(r"os_error_code='(\d+)'", text):
            return int(found.group(1))
        if known := next((number for word, number in _WORDS.items() if word in text), None):
            return known
        error = error.__cause__
    return None


@contextlib.contextmanager
def damage_named(folder: Path) -> Iterator[None]:
    """Turn an error of reading a staged tile into an error with a remedy.

    Put it around the reading itself, not around a phase, so that it does not catch unrelated errors.

    Parameters
    ----------
    folder : Path
        The job folder.

    Raises
    ------
    JobError
        If the tile is damaged.
    StoreError
        If the disk cannot be read.
    """
    try:
        yield
    except JobError:
        raise
    except FileNotFoundError as error:
        raise _damaged(folder, f"{error.filename} is missing") from error
    except OSError as error:
        raise StoreError.of(error, folder) from error
    except (ValueError, IndexError, NotImplementedError) as error:
        if errno_of(error) is not None:
            raise StoreError.of(error, folder) from error
        raise _damaged(folder, (str(error).splitlines() or [""])[0][:300]) from error


def _damaged(folder: Path, what: str) -> JobError:
    return JobError(
        f"a staged tile of {folder} is damaged ({what}). Find and un-stage such tiles with "
        f"`napari-blockbuster info --check --repair {folder}`, then resume"
    )


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn an error of writing a folder into a `StoreError`.

    Put it around the writing itself, not around a phase: a lost scheduler is not a storage error.
    """
    try:
        yield
    except OSError as error:
        raise StoreError.of(error, folder) from error
    except (ValueError, NotImplementedError) as error:
        # tensorstore raises these for errors of the system. Any other ValueError has another cause.
        if errno_of(error) is None:
            raise
        raise StoreError.of(error, folder) from error


def finish_writes(writes: list[Any], files: Iterable[Path], write_again: Callable[[], list[Any]]) -> None:
    """Wait until chunks are written, also on a disk that refuses to replace the chunks of an earlier attempt.

    Parameters
    ----------
    writes : list of tensorstore.Future
    files : iterable of Path
        The chunks that they write. No process reads them yet.
    write_again : callable
        Starts the same writes.
    """
    try:
        for future in writes:
            future.result()
    except (OSError, ValueError, NotImplementedError) as error:
        if not refuses_to_replace(errno_of(error)):
            raise
        for path in files:
            path.unlink(missing_ok=True)
        for future in write_again():
            future.result()
