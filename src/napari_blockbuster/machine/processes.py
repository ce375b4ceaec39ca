"""Identify a process, and find out whether it is alive, also across machines, containers and changes of the clock."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .system import machine_id, process_fields

__all__ = ["ProcessIdentity", "is_running", "is_stopped", "place_of_this_process"]


@dataclass(frozen=True)
class ProcessIdentity:
    """One process among all that ever ran on any machine. None of it depends on the clock.

    Attributes
    ----------
    host : str
        Hostname, for messages.
    pid : int
    machine : str
        Boot and PID namespace (`napari_blockbuster.machine.system.machine_id`): process numbers are comparable only within it.
        Empty where the system has neither.
    ticks : int or None
        Start time of the process in clock ticks since the boot, which no step of the clock changes. None if unknown.
    created : float or None
        Start time in seconds since the epoch, where there are no ticks (also in locks of version 0.1).
    """

    host: str
    pid: int
    machine: str = ""
    ticks: int | None = None
    created: float | None = None

    @classmethod
    def of_this(cls) -> Self:
        """Return the identity of this process."""
        pid = os.getpid()
        ticks = _stat_of(pid)[1]
        return cls(socket.gethostname(), pid, machine_id(), ticks, None if ticks is not None else _created(pid))

    @classmethod
    def parse(cls, known: Mapping[str, Any]) -> Self | None:
        """Return the identity in a JSON object; None if it has none."""
        try:
            ticks, created = known.get("ticks"), known.get("started")
            return cls(
                str(known["host"]),
                int(known["pid"]),
                str(known.get("machine", "")),
                ticks if isinstance(ticks, int) else None,
                created if isinstance(created, float) else None,
            )
        except (KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> dict[str, Any]:
        """Return the identity as a JSON object."""
        known: dict[str, Any] = {"host": self.host, "pid": self.pid, "machine": self.machine}
        known |= {} if self.ticks is None else {"ticks": self.ticks}
        return known | ({} if self.created is None else {"started": self.created})

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def is_alive(self) -> bool | None:
        """Whether the process runs (or is stopped). None if it cannot be looked up from here.

        A machine with the same hostname may be another container, or the same one before a restart: only signs of life tell.
        """
        here = machine_id()
        if self.machine != here if self.machine and here else self.host != socket.gethostname():
            return None
        state, ticks = _stat_of(self.pid)
        if self.ticks is not None and ticks is not None:
            # Another process may have the number now.
            return state not in "ZX" and ticks == self.ticks
        created = _created(self.pid)
        if created is None:
            return False
        # A holder of version 0.1, or a system without ticks. The clock may have been adjusted a little.
        return self.created is None or min(created, self.created) < 0 or abs(created - self.created) < 5


def place_of_this_process() -> tuple[str, int]:
    """Return the machine (or container) and the process id, which together identify a process that runs now."""
    return f"{socket.gethostname()} {machine_id()}", os.getpid()


def is_running(pid: int) -> bool:
    """Whether there is a process with this number on this machine, which has not ended."""
    return _created(pid) is not None


def is_stopped(pid: int) -> bool:
    """Whether a process on this machine is stopped (SIGSTOP, or Ctrl-Z)."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def _stat_of(pid: int) -> tuple[str, int | None]:
    """Return the state and the start ticks of a process; ("", None) if there is none, or if the system does not tell."""
    fields = process_fields(pid)
    try:
        return fields[0], int(fields[19])
    except (ValueError, IndexError):
        return "", None


def _created(pid: int) -> float | None:
    """Return the start time of a process on this machine, negative if it is secret; None if there is no such process."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except (psutil.NoSuchProcess, ValueError):
        return None
    except psutil.AccessDenied:
        return -1.0
