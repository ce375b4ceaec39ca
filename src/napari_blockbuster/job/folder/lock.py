"""Locks of a job folder, so that one process at a time changes the job.

A lock names its holder. `napari_blockbuster.machine.ownership` makes sure that a holder that was asleep while another process
took the lock over changes nothing any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.errors import JobLockedError, TakenOverError
from napari_blockbuster.machine.ownership import Owner, read_holder
from napari_blockbuster.machine.processes import ProcessIdentity

__all__ = ["BEAT", "JobLockedError", "Lock", "holding", "is_held", "silence_of"]

BEAT = 20.0
"""Seconds between two updates of a lock by its holder."""
HALF_WRITTEN, LOOK = 5.0, 0.5
"""Seconds to wait for the content of an empty lock, and between two looks at it."""
BRIEF, MOMENT = ("create", "replace", "choose where to segment"), 3.0
"""Steps that last a moment, and the seconds to wait for their end: of two processes that start the same run at once, one makes
the job, and the other one must not stop it when it looks whether it may."""
TRIES = 2 * int(max(HALF_WRITTEN, MOMENT) / LOOK)
SILENCE = 300.0
"""Seconds without an update after which a holder that cannot be looked up from here (on another machine, in another container)
counts as gone, for example a killed batch job."""


class Lock:
    """A lock that this process holds.

    Attributes
    ----------
    owner : Owner
        Checks the ownership, here and in workers.
    """

    def __init__(self, path: Path, doing: str) -> None:
        self.path = path
        self.owner = Owner(path, uuid.uuid4().hex)
        self._released = threading.Event()
        self._mine = {
            **ProcessIdentity.of_this().to_json(),
            "since": time.time(),
            "doing": doing,
            "token": self.owner.token,
        }

    def acquire(self) -> None:
        """Take the lock, even from a holder that is gone."""
        began = time.monotonic()
        # More tries than a half-written lock needs.
        for _ in range(TRIES):
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                _refuse_if_alive(self.path, time.monotonic() - began)
                continue
            try:
                with os.fdopen(descriptor, "w") as file:
                    json.dump(self._mine, file)
                if self._begin():
                    threading.Thread(target=self._beat, name="blockbuster-lock", daemon=True).start()
                    return
            except BaseException:
                # The disk is full, or a signal arrived.
                self._give_up()
                raise
        raise JobLockedError(f"Could not take the lock {self.path}, because other processes keep taking it. Try again.")

    def _begin(self) -> bool:
        """Shut former holders out. Return False if the lock was taken meanwhile, because this process was asleep."""
        with contextlib.suppress(TakenOverError):
            if self.owner.begin():
                return True
        self.owner.end()
        return False

    def _give_up(self) -> None:
        if (read_holder(self.path) or self._mine).get("token") == self.owner.token:
            self.path.unlink(missing_ok=True)
        self.owner.end()

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            with contextlib.suppress(OSError):
                if self.owner.is_over():
                    return
                os.utime(self.path)

    def check(self) -> None:
        """Raise `TakenOverError` if another process has taken the job over."""
        self.owner.check()

    def release(self) -> None:
        """Release the lock. Does nothing if another process holds it now."""
        self._released.set()
        with contextlib.suppress(OSError):
            self.owner.end()


@contextlib.contextmanager
def holding(path: Path, doing: str) -> Iterator[Lock]:
    """Hold a lock file of a job. A lock left behind by a dead process is taken over.

    An error in the block that another process caused, because it took the lock over, becomes a `TakenOverError`.

    Raises
    ------
    JobLockedError
        With the host, process, step and start time of the holder.
    TakenOverError
        If the lock was taken over while this process was asleep.
    StoreError
        If the folder cannot be written.
    """
    lock = Lock(path, doing)
    with writing_to(path.parent):
        lock.acquire()
    try:
        yield lock
    except (TakenOverError, JobLockedError):
        raise
    except Exception as error:
        if lock.owner.is_over():
            raise lock.owner.taken_over() from error
        raise
    finally:
        lock.release()


# -------------------------------------------------------------------------------------------------------- other holders
def is_held(path: Path, *, may_write: bool = True) -> bool:
    """Whether the holder of a lock file is alive, by the rules for taking the lock.

    With `may_write` false nothing is written, and the clock of this machine gives the age of a lock of another machine.
    """
    try:
        holder = read_holder(path)
        return holder is not None and _is_alive(holder, path, may_write)
    except FileNotFoundError:
        # Released in the meantime.
        return False


def silence_of(path: Path) -> float:
    """Return the seconds since the last sign of life of the holder of a lock file; 0 if nobody holds it."""
    try:
        return _age(path, may_write=True)
    except OSError:
        return 0.0


def _refuse_if_alive(path: Path, waited: float) -> None:
    """Raise if the holder is alive and will not be done in a moment. Remove the lock of a holder that is gone."""
    try:
        age = abs(_age(path, may_write=True))
        holder = read_holder(path)
        if holder is None:
            # Half-written: the process died between two system calls, or is between them right now.
            if age < HALF_WRITTEN:
                time.sleep(LOOK)
                return
            holder = {}
        alive = _is_alive(holder, path)
    except FileNotFoundError:
        return
    if alive and holder.get("doing") in BRIEF and waited < MOMENT:
        time.sleep(LOOK)
        return
    if alive:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(holder.get("since", 0))))
        raise JobLockedError(
            f"{path.parent} is in use by process {holder.get('pid')} on {holder.get('host')} since {when} "
            f"({holder.get('doing')}). Wait for it to finish or stop it. If its machine crashed, the lock expires "
            f"{SILENCE / 60:.0f} minutes after its last sign of life. To take it at once, delete {path}"
        )
    _remove_stale(path, holder)


def _remove_stale(path: Path, holder: dict[str, Any]) -> None:
    """Remove the lock of a dead holder, unless another process has just removed and taken it."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if (read_holder(aside) or {}).get("token") != holder.get("token"):
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
    process = ProcessIdentity.parse(holder)
    if process is None:
        return False
    alive = process.is_alive()
    # A time in the future is as far from a sign of life as one in the past: a clock was set back.
    return abs(_age(path, may_write)) < SILENCE if alive is None else alive


def _age(path: Path, may_write: bool) -> float:
    """Return the seconds since a file was written or touched."""
    now = _now_there(path.parent) if may_write else time.time()
    return now - path.stat().st_mtime


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
