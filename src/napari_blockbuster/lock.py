"""One driver at a time on a job folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from .spec import JobError

__all__ = ["JobLockedError", "holding"]


class JobLockedError(JobError):
    """Another process works on this job."""


@contextlib.contextmanager
def holding(path: Path, doing: str) -> Iterator[None]:
    """Hold the lock file of a job; one left behind by a process that is gone is taken over.

    Raises
    ------
    JobLockedError
        Naming who holds it: host, pid, what it does, and since when.
    """
    _acquire(path, doing)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _acquire(path: Path, doing: str) -> None:
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time(), "doing": doing}
    for _ in range(10):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            _refuse_if_alive(path)
            continue
        with os.fdopen(descriptor, "w") as file:
            json.dump(mine, file)
        return
    raise JobLockedError(f"could not take the lock {path}: another process keeps taking it")


def _refuse_if_alive(path: Path) -> None:
    """Raise if the holder lives; else remove its lock."""
    try:
        holder = json.loads(path.read_text())
        host, pid, since = str(holder["host"]), int(holder["pid"]), float(holder["since"])
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        # Half-written: its process died between two system calls, or is in between them right now.
        if time.time() - path.stat().st_mtime < 5:
            time.sleep(0.5)
            return
        host, pid, since = socket.gethostname(), -1, 0.0
    if host != socket.gethostname() or _is_alive(pid):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(since))
        raise JobLockedError(
            f"{path.parent} is in use by process {pid} on {host} since {when}; wait for it or stop it. "
            f"If it is gone (another machine that crashed), delete {path}"
        )
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _is_alive(pid: int) -> bool:
    import psutil

    return pid > 0 and psutil.pid_exists(pid)
