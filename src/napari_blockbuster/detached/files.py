"""The files through which a detached driver reports and receives requests.

Any machine that sees the job folder can follow the driver, without a connection to it or to its cluster::

    driver.json   the state of the driver (`DriverState`), replaced as a whole when it changes
    driver.lock   held while the driver lives (see `napari_blockbuster.job.folder.lock`)
    driver.log    output of the driver and its libraries
    driver.stop   a request to stop: the token of the run
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_blockbuster.job.folder.job_folder import JobFolder
from napari_blockbuster.job.folder.lock import is_held, silence_of
from napari_blockbuster.job.progress.summary import Summary
from napari_blockbuster.machine.ownership import Owner

__all__ = ["DriverFiles", "DriverState"]


class DriverState(BaseModel):
    """The content of ``driver.json``: data only.

    Attributes
    ----------
    token : str
        Identifies the run among others in the same folder.
    host, pid, since : str, int, float
        The process, and when it started (seconds since the epoch).
    scheduler : str
        Address of its cluster.
    again : tuple of str
        Options for ``resume``.
    step : {"staging", "merge", "holes", "writing"}
    staged, n_tiles : int
    failed : tuple of int
        Tiles that failed in this run.
    done, total : int
        Progress of a step after the tiles.
    end : {"", "done", "stopped", "failed"}
        Empty while the driver runs.
    error : str
        Message of a run that failed.
    summary : Summary or None
        Numbers of a run that is done.
    result : str
        Token of its result, as in ``result.json``.
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
        """The process, its machine, and its start time."""
        return f"process {self.pid} on {self.host} since {time.strftime('%Y-%m-%d %H:%M', time.localtime(self.since))}"

    @property
    def progress(self) -> str:
        """The step and its progress, as text."""
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
        """Return the state of the last driver; None if there was none, or if it cannot be read."""
        try:
            return DriverState.model_validate_json(self.state.read_bytes())
        except (OSError, ValidationError):
            return None

    def save(self, state: DriverState, owner: Owner, *, durable: bool = False) -> None:
        """Write the state for followers. `owner` is that of the driver's lock."""
        owner.write(self.state, state.model_dump_json().encode(), durable=durable)

    def is_alive(self) -> bool:
        """Whether a driver holds the lock."""
        return is_held(self.lock)

    def silence(self) -> float:
        """Return the seconds since the last sign of life of the driver; 0 if there is none."""
        return silence_of(self.lock)

    def at_work(self) -> DriverState | None:
        """Return the state of the running driver; None if there is none."""
        state = self.load()
        return state if state is not None and not state.end and self.is_alive() else None

    def ask_to_stop(self, state: DriverState) -> None:
        """Request that a driver stop. A later driver ignores the request."""
        self.request.write_text(state.token)

    def is_asked_to_stop(self, token: str) -> bool:
        """Whether the run with this token was requested to stop."""
        with contextlib.suppress(OSError):
            return self.request.read_text() == token
        return False
