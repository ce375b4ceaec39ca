"""Locks of a job folder, so that one process at a time changes the job."""

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
"""Seconds between two updates of a lock by its holder."""
HALF_WRITTEN, LOOK = 5.0, 0.5
"""Seconds to wait for the content of an empty lock, and between two looks at it."""
TRIES = 2 * int(HALF_WRITTEN / LOOK)
SILENCE = 300.0
"""Seconds without an update after which a holder on another machine counts as gone, for example a killed batch job. On this
machine the process itself is looked up."""


class JobLockedError(JobError):
    """Another process works on this job."""


class Lock:
    """A lock that this process holds.

    Attributes
    ----------
    lost : threading.Event
        Set once another process took over the lock, because this one was asleep for too long.
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
        """Take the lock, even from a holder that is gone."""
        # More tries than a half-written lock needs.
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
                # The disk is full, or a signal arrived.
                self.path.unlink(missing_ok=True)
                raise
            threading.Thread(target=self._beat, name="blockbuster-lock", daemon=True).start()
            return
        raise JobLockedError(f"Could not take the lock {self.path}, because other processes keep taking it. Try again.")

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            if not self.is_mine():
                self.lost.set()
                return
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def is_mine(self) -> bool:
        """Whether this process still holds the lock. True if the lock cannot be read: a disk may be away for a while."""
        holder = _read(self.path)
        return holder is None or holder.get("token") == self._mine["token"]

    def check(self) -> None:
        """Raise `JobLockedError` if another process has taken the job over."""
        if self.lost.is_set():
            raise JobLockedError(
                f"{self.path.parent} was taken over by another process while this one was asleep. "
                "Its tiles are kept, and the other process continues the job."
            )

    def release(self) -> None:
        """Release the lock. Does nothing if another process holds it now."""
        self._released.set()
        if self.is_mine():
            with contextlib.suppress(OSError):
                self.path.unlink()


@contextlib.contextmanager
def holding(path: Path, doing: str) -> Iterator[Lock]:
    """Hold a lock file of a job. A lock left behind by a dead process is taken over.

    Raises
    ------
    JobLockedError
        With the host, process, step and start time of the holder.
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
    """Whether the holder of a lock file is alive, by the rules for taking the lock.

    With `may_write` false nothing is written, and the clock of this machine gives the age of a lock of another machine.
    """
    try:
        holder = _read(path)
        return holder is not None and _is_alive(holder, path, may_write)
    except FileNotFoundError:
        # Released in the meantime.
        return False


def _read(path: Path) -> dict[str, Any] | None:
    try:
        holder = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return holder if isinstance(holder, dict) else None


def _refuse_if_alive(path: Path) -> None:
    """Raise if the holder is alive; otherwise remove its lock."""
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return
    holder = _read(path)
    if holder is None:
        # Half-written: the process died between two system calls, or is between them right now.
        if age < HALF_WRITTEN:
            time.sleep(LOOK)
            return
        holder = {}
    if _is_alive(holder, path):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(holder.get("since", 0))))
        raise JobLockedError(
            f"{path.parent} is in use by process {holder.get('pid')} on {holder.get('host')} since {when} "
            f"({holder.get('doing')}). Wait for it to finish or stop it. If its machine crashed, the lock expires "
            f"{SILENCE / 60:.0f} minutes after its last sign of life; to take it at once, delete {path}"
        )
    _remove_stale(path, holder)


def _remove_stale(path: Path, holder: dict[str, Any]) -> None:
    """Remove the lock of a dead holder, unless another process has just removed and taken it."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if (_read(aside) or {}).get("token") != holder.get("token"):
        _restore(aside, path)
    aside.unlink()


def _restore(aside: Path, path: Path) -> None:
    """Restore a lock that was taken in the meantime, unless it was taken again since."""
    try:
        os.link(aside, path)
    except FileExistsError:
        return
    except OSError:
        # The disk has no hard links.
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
    # The pid may belong to another process now, above all after a restart. The clock may have been adjusted a little.
    return since is not None and (not isinstance(then, float) or min(then, since) < 0 or abs(then - since) < 5)


def _now_there(folder: Path) -> float:
    """Return the time of the clock that stamps files in the folder; a network disk has its own."""
    probe = folder / f".clock.{uuid.uuid4().hex[:8]}.tmp"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        # The disk is read-only, or the holder has just swept the folder.
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _started(pid: int) -> float | None:
    """Return the start time of a process on this machine; None if there is no such process."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except (psutil.NoSuchProcess, ValueError):
        return None
    except psutil.AccessDenied:
        return -1.0
