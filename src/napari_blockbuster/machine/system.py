"""Calls to the operating system that not every system or disk offers, each with a fallback.

Everything that only POSIX systems have is here, and nowhere else in the package. Set the environment variable
``NAPARI_BLOCKBUSTER_PORTABLE=1`` to use the fallbacks everywhere, as on a system that has none of these calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import platform
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "PORTABLE",
    "exchange",
    "glibc",
    "has_file_locks",
    "lock_file",
    "machine_id",
    "name_limit",
    "new_session",
    "only_portable",
    "refuses_to_replace",
    "replace",
    "sync",
    "syncs",
    "tensorstore_path",
]


def _codes(*names: str) -> frozenset[int]:
    """Error numbers by name, those that this system has."""
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


PORTABLE = "NAPARI_BLOCKBUSTER_PORTABLE"
"""Environment variable that selects the fallbacks, here and in worker processes."""
UNSUPPORTED = _codes("EINVAL", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENOTTY")
"""How file systems say that they do not offer an operation at all."""
HELD = _codes("EWOULDBLOCK", "EAGAIN", "EACCES")
NO_LOCKS = UNSUPPORTED | _codes("ENOLCK")
IN_USE = _codes("EACCES", "EPERM", "EBUSY", "ETXTBSY")
"""A file that another process has open cannot be replaced on Windows and on CIFS mounts: a matter of time."""
PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Seconds between attempts to replace such a file."""
USUAL_NAME_LIMIT = 255


def only_portable() -> bool:
    """Whether only calls of every system are used: on systems without the others, and when asked for."""
    return os.name != "posix" or os.environ.get(PORTABLE) == "1"


# ---------------------------------------------------------------------------------------------------- files on a disk
def sync(file: IO[Any]) -> None:
    """Write a file's bytes through to the disk, where the disk can do that; others keep them as well as they can."""
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def syncs(file: Path) -> bool:
    """Whether the disk of a file can synchronize files. True where that cannot be found out.

    Parameters
    ----------
    file : Path
        A file that exists, or is written anyway: for a moment it is made if it does not exist and its folder does.
    """
    if only_portable():
        return True
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return _syncs_new(file)
    except OSError:
        return True
    return _syncs(descriptor)


def _syncs_new(file: Path) -> bool:
    probe = file.with_name(f".{uuid.uuid4().hex[:8]}.tmp")
    try:
        descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except OSError:
        return True
    try:
        return _syncs(descriptor)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(probe)


def _syncs(descriptor: int) -> bool:
    try:
        os.fsync(descriptor)
    except OSError as error:
        return error.errno not in UNSUPPORTED
    finally:
        os.close(descriptor)
    return True


def replace(source: Path, target: Path) -> None:
    """Give a file another name, in place of the file that has it, also on disks that refuse to replace a file.

    There the old file is moved aside for a moment.
    """
    for pause in (*PAUSES, None):
        try:
            os.replace(source, target)
            return
        except OSError as error:
            if not os.path.lexists(target) or not os.path.lexists(source):
                raise
            if error.errno in IN_USE and pause is not None:
                time.sleep(pause)
                continue
            if not refuses_to_replace(error.errno):
                raise
            break
    _replace_in_two_steps(source, target)


def refuses_to_replace(code: int | None) -> bool:
    """Whether an error number may mean that a disk does not replace a file that exists."""
    return code in IN_USE or code in UNSUPPORTED or code in _codes("EEXIST")


def _replace_in_two_steps(source: Path, target: Path) -> None:
    aside = target.with_name(f".{target.name[:100]}.replaced")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(aside)
    os.rename(target, aside)
    try:
        os.rename(source, target)
    except OSError:
        os.rename(aside, target)
        raise
    with contextlib.suppress(OSError):
        os.unlink(aside)


def exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; return whether the system and the disk could."""
    if only_portable():
        return False
    names = os.fsencode(one), os.fsencode(other)
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        if sys.platform == "linux":
            here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
            return bool(libc.renameat2(here, names[0], here, names[1], swap) == 0)
        if sys.platform == "darwin":
            return bool(libc.renamex_np(*names, 2) == 0)  # RENAME_SWAP
    return False


def name_limit(folder: Path) -> int:
    """Return the most bytes that the name of a file in an existing folder may have."""
    try:
        return min(USUAL_NAME_LIMIT, os.pathconf(folder, "PC_NAME_MAX"))
    except (OSError, ValueError, AttributeError):
        return USUAL_NAME_LIMIT


# -------------------------------------------------------------------------------------------------------------- locks
def has_file_locks() -> bool:
    """Whether the system has locks that end with their process."""
    return fcntl is not None and not only_portable()


def lock_file(file: IO[Any]) -> bool | None:
    """Lock a file without waiting; return whether that worked, None where the disk has no locks."""
    if not has_file_locks():
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            return False
        if error.errno in NO_LOCKS:
            return None
        raise
    return True


# ---------------------------------------------------------------------------------------------------------- processes
def new_session() -> dict[str, Any]:
    """Arguments of `subprocess.Popen` for a process that a Ctrl-C in this terminal does not reach."""
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined, unused-ignore]
    return {"start_new_session": True}


def machine_id() -> str:
    """Text that tells containers with the same hostname and process numbers apart; empty where nothing does."""
    if only_portable():
        return ""
    found = ""
    with contextlib.suppress(OSError):
        found = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError):
        found += os.readlink("/proc/self/ns/pid")
    return found


@functools.cache
def glibc() -> ctypes.CDLL | None:
    """The C library, if it is glibc and its allocator can be adjusted."""
    if only_portable() or platform.libc_ver()[0] != "glibc":
        return None
    return ctypes.CDLL(None)


# -------------------------------------------------------------------------------------------------- paths of libraries
def tensorstore_path(folder: Path) -> str:
    """Return the path of a folder as tensorstore takes it: UTF-8, with a slash at the end.

    tensorstore refuses names that are no UTF-8 and parts such as ``..``, and takes a backslash for a slash. Such a folder
    gets another path that leads to it.
    """
    absolute = os.path.abspath(folder) if ".." not in Path(folder).parts else os.path.realpath(folder)
    if os.name == "nt":
        return Path(absolute).as_posix().rstrip("/") + "/"
    try:
        text = os.fsencode(absolute).decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text or "\\" in text:
        text = _link_to(absolute, os.getpid())
    # A path may begin with two slashes, which mean nothing on POSIX systems and which tensorstore refuses.
    return "/" + text.strip("/") + "/" if text.strip("/") else "/"


@functools.lru_cache(maxsize=1024)
def _link_to(target: str, process: int) -> str:
    link = os.path.join(_links(process), uuid.uuid4().hex)
    os.symlink(target, link)
    return link


@functools.lru_cache(maxsize=1)
def _links(process: int) -> str:
    import atexit
    import shutil

    folder = tempfile.mkdtemp(prefix="napari-blockbuster-")

    def remove() -> None:
        # A process that was forked from this one leaves the folder alone.
        if os.getpid() == process:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
