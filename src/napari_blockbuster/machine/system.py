"""Calls of the operating system that some systems or disks lack, each with a fallback.

All code of the package that is specific to POSIX systems is in this module. Set the environment variable
``NAPARI_BLOCKBUSTER_PORTABLE=1`` to use the fallbacks everywhere.
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
    "control_group",
    "exchange",
    "glibc",
    "has_file_locks",
    "lock_file",
    "machine_id",
    "name_limit",
    "new_session",
    "only_portable",
    "process_fields",
    "refuses_to_replace",
    "replace",
    "sync",
    "sync_named",
    "syncs",
    "tensorstore_path",
    "user_number",
]


def _codes(*names: str) -> frozenset[int]:
    """Return error numbers by name, without those that this system lacks."""
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))


PORTABLE = "NAPARI_BLOCKBUSTER_PORTABLE"
"""Environment variable that selects the fallbacks, here and in worker processes."""
UNSUPPORTED = _codes("EINVAL", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENOTTY")
"""Errors of file systems that do not support an operation."""
HELD = _codes("EWOULDBLOCK", "EAGAIN", "EACCES")
NO_LOCKS = UNSUPPORTED | _codes("ENOLCK")
IN_USE = _codes("EACCES", "EPERM", "EBUSY", "ETXTBSY")
"""Errors for a file that another process has open. On Windows and on CIFS mounts it cannot be replaced until it is closed."""
PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Seconds between attempts to replace such a file."""
USUAL_NAME_LIMIT = 255


def only_portable() -> bool:
    """Return whether to use the fallbacks only: on systems that lack the calls, or on request."""
    return os.name != "posix" or os.environ.get(PORTABLE) == "1"


# ---------------------------------------------------------------------------------------------------- files on a disk
def sync(file: IO[Any]) -> None:
    """Flush a file to the disk, if the disk supports it."""
    file.flush()
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def sync_named(path: Path) -> None:
    """Flush a file that has its final name to the disk, and with it the name, on file systems with a journal."""
    with open(path, "rb+") as file:
        sync(file)


def syncs(file: Path) -> bool:
    """Return whether the disk of a file can synchronize files. True if this cannot be determined.

    Parameters
    ----------
    file : Path
        If it does not exist, a temporary file is created in its folder.
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
    """Rename a file and replace the file that has the new name.

    On disks that refuse to replace a file, the old file is first moved aside.
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
    """Return whether an error number may mean that a disk refuses to replace a file."""
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
    """Exchange two files atomically. Return False if the system or the disk does not support it."""
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
    """Return whether the system has file locks that end with their process."""
    return fcntl is not None and not only_portable()


def lock_file(file: IO[Any]) -> bool | None:
    """Lock a file without waiting. Return whether it is locked now, or None if the disk has no locks."""
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
    """Return arguments of `subprocess.Popen` for a process that does not receive Ctrl-C from this terminal."""
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined, unused-ignore]
    return {"start_new_session": True}


def process_fields(pid: int) -> list[str]:
    """Return what Linux says of a process, from its state on (``man proc_pid_stat``); empty if there is none, or elsewhere."""
    if only_portable():
        return []
    try:
        # The name of the program, in parentheses, may hold anything.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def control_group() -> str:
    """Return the control group of this process (``man cgroups``), such as ``/user.slice``; "/" if there is none, or elsewhere."""
    if only_portable():
        return "/"
    try:
        words = Path("/proc/self/cgroup").read_text("utf-8", "replace").split()
    except OSError:
        return "/"
    return next((word.rpartition(":")[2] for word in words if word.startswith("0::")), "/")


def user_number() -> int:
    """Return the number of the user of this process; 0 on systems without."""
    return os.getuid() if hasattr(os, "getuid") else 0


def machine_id() -> str:
    """Return text that distinguishes containers with the same hostname and process numbers; "" if the system has none."""
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
    """Return the C library if it is glibc, whose allocator can be adjusted."""
    if only_portable() or platform.libc_ver()[0] != "glibc":
        return None
    return ctypes.CDLL(None)


# -------------------------------------------------------------------------------------------------- paths of libraries
def tensorstore_path(folder: Path) -> str:
    """Return the path of a folder in the form that tensorstore needs: UTF-8, with a slash at the end.

    tensorstore refuses names that are not UTF-8 and parts such as ``..``, and reads a backslash as a slash. For such a folder,
    the path of a symbolic link is returned.
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
    # tensorstore refuses two slashes at the start, which POSIX systems ignore.
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
        # A forked process must not delete the folder of its parent.
        if os.getpid() == process:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
