"""One driver at a time on a job folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.errors import JobError

__all__ = ["JobLockedError", "Lock", "holding", "is_held"]

BEAT = 20.0
"""Seconds between two signs of life of a holder."""
HALF_WRITTEN, LOOK = 5.0, 0.5
"""Seconds that a lock without content is waited for, and between two looks at it."""
TRIES = 2 * int(HALF_WRITTEN / LOOK)
SILENCE = 300.0
"""Seconds without one after which a holder on another machine counts as gone: a batch job that was killed, a machine
that is off. On this machine the process itself is looked for."""


class JobLockedError(JobError):
    """Another process works on this job."""


class Lock:
    """A lock that is held.

    Attributes
    ----------
    lost : threading.Event
        Set once another process took the lock over: this one slept for too long.
    """

    def __init__(self, path: Path, doing: str) -> None:
        self.path = path
        self.lost = threading.Event()
        self._released = threading.Event()
        self._mine = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "since": time.time(),
            "doing": doing,
            "token": uuid.uuid4().hex,
        }

    def acquire(self) -> None:
        """Take the lock, also from a holder that is gone."""
        # Longer than a half-written lock is waited for.
        for _ in range(TRIES):
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                _refuse_if_alive(self.path)
                continue
            try:
                with os.fdopen(descriptor, "w") as file:
                    json.dump(self._mine, file)
            except BaseException:
                # A full disk, or a signal in between.
                self.path.unlink(missing_ok=True)
                raise
            threading.Thread(target=self._beat, name="blockbuster-lock", daemon=True).start()
            return
        raise JobLockedError(f"could not take the lock {self.path}: another process keeps taking it")

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            if not self.is_mine():
                self.lost.set()
                return
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def is_mine(self) -> bool:
        """Whether the lock is still this one. True where that cannot be found out: a disk may be away for a while."""
        holder = _read(self.path)
        return holder is None or holder.get("token") == self._mine["token"]

    def check(self) -> None:
        """Raise `JobLockedError` if another process has taken the job over."""
        if self.lost.is_set():
            raise JobLockedError(
                f"{self.path.parent} was taken over by another process while this one was asleep; "
                "its tiles are kept, and the other process goes on"
            )

    def release(self) -> None:
        """Give the lock back; a no-op if another process has it by now."""
        self._released.set()
        if self.is_mine():
            with contextlib.suppress(OSError):
                self.path.unlink()


@contextlib.contextmanager
def holding(path: Path, doing: str) -> Iterator[Lock]:
    """Hold the lock file of a job; one left behind by a process that is gone is taken over.

    Raises
    ------
    JobLockedError
        Naming who holds it: host, pid, what it does, and since when.
    StoreError
        If the folder cannot be written.
    """
    lock = Lock(path, doing)
    with writing_to(path.parent):
        lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


# -------------------------------------------------------------------------------------------------------- other holders
def is_held(path: Path, *, may_write: bool = True) -> bool:
    """Whether the holder of a lock file lives, by the rules that a process goes by which wants the lock.

    With `may_write` false nothing is written: the age of another machine's lock is then measured by the clock of this one.
    """
    try:
        holder = _read(path)
        return holder is not None and _is_alive(holder, path, may_write)
    except FileNotFoundError:
        # Given back while it was looked at.
        return False


def _read(path: Path) -> dict[str, Any] | None:
    try:
        holder = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return holder if isinstance(holder, dict) else None


def _refuse_if_alive(path: Path) -> None:
    """Raise if the holder lives; else remove its lock."""
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return
    holder = _read(path)
    if holder is None:
        # Half-written: its process died between two system calls, or is in between them right now.
        if age < HALF_WRITTEN:
            time.sleep(LOOK)
            return
        holder = {}
    if _is_alive(holder, path):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(holder.get("since", 0))))
        raise JobLockedError(
            f"{path.parent} is in use by process {holder.get('pid')} on {holder.get('host')} since {when} "
            f"({holder.get('doing')}); wait for it or stop it. If it is gone (another machine that crashed), "
            f"it is taken over {SILENCE / 60:.0f} minutes after its last sign of life, or at once if you delete {path}"
        )
    _remove_stale(path, holder)


def _remove_stale(path: Path, holder: dict[str, Any]) -> None:
    """Remove the lock of a holder that is gone, unless another process has just done so and taken it."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if (_read(aside) or {}).get("token") != holder.get("token"):
        _give_back(aside, path)
    aside.unlink()


def _give_back(aside: Path, path: Path) -> None:
    """Restore the lock of a holder that took it in the meantime, unless there is another one by now."""
    try:
        os.link(aside, path)
    except FileExistsError:
        return
    except OSError:
        # A disk without hard links.
        with contextlib.suppress(OSError), open(path, "xb") as file:
            file.write(aside.read_bytes())


def _is_alive(holder: dict[str, Any], path: Path, may_write: bool = True) -> bool:
    try:
        host, pid = str(holder["host"]), int(holder["pid"])
    except (KeyError, TypeError, ValueError):
        return False
    if host != socket.gethostname():
        now = _now_there(path.parent) if may_write else time.time()
        return now - path.stat().st_mtime < SILENCE
    then, since = holder.get("started"), _started(pid)
    # A pid alone may belong to another process by now, after a restart above all. The clock may have been set by a
    # second.
    return since is not None and (not isinstance(then, float) or min(then, since) < 0 or abs(then - since) < 5)


def _now_there(folder: Path) -> float:
    """The time by the clock that stamps the folder's files, which on a network is not this machine's."""
    probe = folder / f".clock.{uuid.uuid4().hex[:8]}.tmp"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        # A disk that can only be read; or the holder has just swept the folder.
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _started(pid: int) -> float | None:
    """When a process of this machine started; None if there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except (psutil.NoSuchProcess, ValueError):
        return None
    except psutil.AccessDenied:
        return -1.0
