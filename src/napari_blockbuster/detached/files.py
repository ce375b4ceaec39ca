"""What a detached driver says of itself, and what it is told: files in the job folder, and nothing else.

Whoever sees the folder can look in, from any machine, without a connection to the driver or to its cluster::

    driver.json   what it is doing, and how it ended (`DriverState`); written anew as it gets on, always whole
    driver.lock   held for as long as it lives: its sign of life (see `napari_blockbuster.job.lock`)
    driver.log    what it and its libraries print
    driver.stop   the token of the run that somebody wants stopped
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_blockbuster.job.folder import JobFolder
from napari_blockbuster.job.lock import is_held
from napari_blockbuster.job.summary import Summary
from napari_blockbuster.machine.files import write_atomically

__all__ = ["DriverFiles", "DriverState"]


class DriverState(BaseModel):
    """The content of ``driver.json``: data only.

    Attributes
    ----------
    token : str
        Tells this run from another one in the same folder.
    host, pid, since : str, int, float
        Which process, and when it began (seconds since the epoch).
    scheduler : str
        Address of its cluster.
    again : tuple of str
        Options with which ``resume`` goes on.
    step : {"staging", "merge", "holes", "writing"}
    staged, n_tiles : int
    failed : tuple of int
        Tiles that this run has given up.
    done, total : int
        Of a step after the tiles.
    end : {"", "done", "stopped", "failed"}
        Empty while it is at work.
    error : str
        Of a run that failed.
    summary : Summary or None
        Of a run that is done.
    result : str
        Mark of what it wrote, as in ``result.json``.
    """

    model_config = ConfigDict(frozen=True)

    token: str
    host: str
    pid: int
    since: float
    scheduler: str
    again: tuple[str, ...] = ()
    step: str = "staging"
    staged: int = 0
    n_tiles: int
    failed: tuple[int, ...] = ()
    done: int = 0
    total: int = 0
    end: Literal["", "done", "stopped", "failed"] = ""
    error: str = ""
    summary: Summary | None = None
    result: str = ""

    @property
    def place(self) -> str:
        """Where it is, and since when."""
        return f"process {self.pid} on {self.host} since {time.strftime('%Y-%m-%d %H:%M', time.localtime(self.since))}"

    @property
    def progress(self) -> str:
        """What it is doing."""
        if self.step != "staging":
            return f"{self.step} {self.done}/{self.total}" if self.total else self.step
        failures = f", {len(self.failed)} failed" if self.failed else ""
        return f"staging {self.staged + len(self.failed)}/{self.n_tiles}{failures}"


@dataclass(frozen=True)
class DriverFiles:
    """The files of a detached driver in a job folder."""

    folder: Path

    @property
    def state(self) -> Path:
        return JobFolder(self.folder).driver_state

    @property
    def lock(self) -> Path:
        return JobFolder(self.folder).driver_lock

    @property
    def log(self) -> Path:
        return JobFolder(self.folder).driver_log

    @property
    def request(self) -> Path:
        return JobFolder(self.folder).driver_stop

    def load(self) -> DriverState | None:
        """What the last driver said of itself; None if there was none, or if it cannot be read."""
        try:
            return DriverState.model_validate_json(self.state.read_bytes())
        except (OSError, ValidationError):
            return None

    def save(self, state: DriverState, *, durable: bool = False) -> None:
        """Write it where followers look."""
        write_atomically(self.state, state.model_dump_json().encode(), durable=durable)

    def is_alive(self) -> bool:
        """Whether a driver is at work."""
        return is_held(self.lock)

    def at_work(self) -> DriverState | None:
        """The driver that is at work, if there is one."""
        state = self.load()
        return state if state is not None and not state.end and self.is_alive() else None

    def ask_to_stop(self, state: DriverState) -> None:
        """Leave a note for a driver; another one, later, takes no notice of it."""
        self.request.write_text(state.token)

    def is_asked_to_stop(self, token: str) -> bool:
        """Whether somebody left such a note."""
        with contextlib.suppress(OSError):
            return self.request.read_text() == token
        return False
