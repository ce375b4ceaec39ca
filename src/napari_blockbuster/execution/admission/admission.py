"""Checks that a worker must pass before it gets a tile: a separate process, the same versions, the job folder, the model.

Workers join and leave during a run (an adaptive cluster, a batch job at its time limit, a restart), so every worker is checked
when it joins, and not only at the start of the run.
"""

from __future__ import annotations

import contextlib
import importlib
import time
import uuid
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_blockbuster.execution import waits
from napari_blockbuster.execution.cluster import IN_PROCESS
from napari_blockbuster.execution.serialization import shallow
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.limits import worker_limit_bytes
from napari_blockbuster.machine.processes import place_of_this_process
from napari_blockbuster.machine.versions import describe_versions, packages_of
from napari_blockbuster.models import Model

from .model_checks import DEATHS, load_shipped, loading_killed, shipped_model

if TYPE_CHECKING:
    from distributed import Client, Future

    from napari_blockbuster.execution.worker import WorkPlugin

__all__ = [
    "Admission",
    "Requirements",
    "Survey",
    "admit",
    "dask_versions",
    "look_around",
    "unanswered",
]

MUST_AGREE = ("python", "napari-blockbuster", "numpy")
"""Packages of the same version in all processes: pickles are sent between them, and results must not depend on the worker."""
SPEAK = ("dask", "distributed")
"""Packages of the same version in the scheduler, the workers and this process: their protocol may change between versions."""
LOADING = 3600.0
"""Seconds for a worker to load the model. It may have to download it, and to finish other work first."""
OVERDUE = 5.0
"""Seconds after which the scheduler is asked whether a check is still running."""
SETTINGS_FILE = "job.json"
"""File in the job folder that holds the settings of the job."""


@dataclass(frozen=True)
class Survey:
    """Description of a process."""

    place: tuple[str, int]
    versions: dict[str, str]
    settings: str
    """Settings of the job, as the process reads them."""
    trouble: str
    """Reason why the process cannot write to the job folder, or ""."""
    memory: int | None
    """Bytes beyond which dask ends the process."""


def look_around(folder: str | None, settings_file: str = SETTINGS_FILE, dask_worker: Any = None) -> Survey:
    """Return versions, memory, and the state of a job folder, as this process sees them."""
    try:
        return _look_around(folder, settings_file, dask_worker)
    except Exception as error:
        raise shallow(error) from None


def _look_around(folder: str | None, settings_file: str, dask_worker: Any) -> Survey:
    settings = trouble = ""
    if folder is not None:
        path = Path(folder)
        try:
            probe = path / f".blockbuster-{uuid.uuid4().hex[:8]}.tmp"
            probe.touch()
            probe.unlink()
        except OSError as error:
            trouble = error.strerror or str(error)
        settings = _settings(path, settings_file)
    memory = worker_limit_bytes() if dask_worker is None else dask_worker.memory_manager.memory_limit
    return Survey(place_of_this_process(), describe_versions(packages_of(settings)), settings, trouble, memory)


def _settings(folder: Path, name: str) -> str:
    """Return the settings of the job that a folder belongs to."""
    for place in (folder, *folder.parents[:3]):
        try:
            return (place / name).read_text("utf-8", "surrogateescape")
        except OSError:
            continue
    return ""


@dataclass(frozen=True)
class Requirements:
    """Requirements for a worker: to agree with this process.

    Attributes
    ----------
    folder : Path or None
        A folder of the job, or None if workers need none.
    here : Survey
        Description of this process.
    settings_file : str
        Name of the file in the job folder that holds the settings of the job.
    """

    folder: Path | None
    here: Survey
    settings_file: str = SETTINGS_FILE

    @classmethod
    def of(cls, folder: Path | None, settings_file: str = SETTINGS_FILE) -> Requirements:
        """Return the requirements of a run on a job folder."""
        return cls(folder, look_around(None if folder is None else str(folder), settings_file), settings_file)

    def problem(self, there: Survey) -> str:
        """Return why a worker cannot take part and a remedy, to be read after "worker W"; "" if it can."""
        if tuple(there.place) == tuple(self.here.place):
            return f"runs in this process. {IN_PROCESS}"
        if problem := self._other_version(there, (*MUST_AGREE, *SPEAK)):
            return problem
        if there.settings != self.here.settings:
            return (
                f"does not see the job folder {self.folder}. Put the output on a disk that all machines share "
                "under the same path"
            )
        # Only now: a worker knows the packages of the model from the settings in the job folder.
        if problem := self._other_version(there, packages_of(self.here.settings)):
            return problem
        if there.trouble:
            return (
                f"cannot write to {self.folder} ({there.trouble}). "
                "Make it writable for the user that the worker runs as"
            )
        return ""

    def _other_version(self, there: Survey, packages: Iterable[str]) -> str:
        for package in packages:
            mine, its = self.here.versions.get(package), there.versions.get(package)
            if mine != its:
                return (
                    f"has {package} {its}, this process has {mine}. "
                    f"Install {package} {mine} on the workers, or the workers' version here"
                )
        return ""


def dask_versions() -> dict[str, str]:
    """Return the versions of the packages that implement the protocol of dask."""
    return {package: str(importlib.import_module(package).__version__) for package in SPEAK}


# ------------------------------------------------------------------------------------------------------------ messages
def no_answer(worker: str) -> str:
    """Return the message for a worker whose checks failed with an error that did not arrive."""
    return (
        f"worker {worker} did not answer the checks. Its log has the error. Fix the problem there, or stop this worker"
    )


def unanswered(worker: str, error: BaseException) -> str:
    """Return the message for a worker that cannot run the checks."""
    return (
        f"worker {worker} cannot run the checks ({type(error).__name__}: {error}). Install napari-blockbuster "
        f"{describe_versions().get('napari-blockbuster')} there, in the environment that the worker runs in"
    )


# ------------------------------------------------------------------------------------------------------------ admission
@dataclass
class _Check:
    """Checks that run on a worker."""

    task: Future[str]
    started: float
    missing: int = 0
    """How many times in a row the scheduler did not know the task, although it has not ended for this client."""


@dataclass
class Admission:
    """Lets workers take part in a run once they have passed the checks.

    Parameters
    ----------
    client : distributed.Client
    name : str
        Name of the work that the workers hold.
    folder : Path or None
        A folder of the job that they must see.
    model : Model or None
        The model that they must be able to load.
    wake : callable
        Called whenever a worker has answered.
    """

    client: Client
    name: str
    folder: Path | None
    model: Model | None
    wake: Callable[[Any], None]
    admitted: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    _checks: dict[str, _Check] = field(default_factory=dict)
    _deaths: int = 0
    _blobs: tuple[Requirements, bytes | None] | None = None
    _searched: float = 0.0

    def look(self, workers: list[str]) -> list[str]:
        """Return the workers that may get tiles. Start the checks of new workers.

        Raises
        ------
        JobError
            If no worker ever passed, and one was refused or loading the model killed it.
        """
        for worker in [worker for worker in self._checks if worker not in workers]:
            self._died(worker)
        for worker in workers:
            if worker not in self.admitted and worker not in self.refused and worker not in self._checks:
                self._checks[worker] = _Check(self._start(worker), time.monotonic())
        for worker in [worker for worker, check in self._checks.items() if check.task.done()]:
            self._judge(worker, self._checks.pop(worker).task)
        for worker in self._without_answer():
            self._checks.pop(worker).task.release()
            self._refuse(worker, no_answer(worker))
        return [worker for worker in workers if worker in self.admitted]

    @property
    def asking(self) -> list[str]:
        """Workers whose checks are running."""
        return list(self._checks)

    def exclude(self, worker: str, why: str) -> None:
        """Let a worker take no part any more."""
        self.admitted.discard(worker)
        self.refused[worker] = why

    def close(self) -> None:
        """Drop the checks that are still running."""
        for check in self._checks.values():
            check.task.release()
        self._checks.clear()

    def _start(self, worker: str) -> Future[str]:

        if self._blobs is None:
            model = None if self.model is None else shipped_model(self.model)
            self._blobs = Requirements.of(self.folder), model
        # Before tiles that wait there for another run.
        options: dict[str, Any] = {"workers": [worker], "pure": False, "priority": 1}
        task = self.client.submit(
            admit, self.name, *self._blobs, key=f"{self.name}-admit-{uuid.uuid4().hex[:8]}", **options
        )
        task.add_done_callback(self.wake)
        return task

    def _without_answer(self) -> list[str]:
        """Return workers whose check has ended, but not for this client.

        An exception that cannot be pickled with its traceback does not reach the client, and its future stays pending.
        """
        now = time.monotonic()
        overdue = {worker: check for worker, check in self._checks.items() if now - check.started > OVERDUE}
        if not overdue or now - self._searched < 1.0:
            return []
        self._searched = now
        running = {key for keys in waits.ask(self.client.processing).values() for key in keys}
        for check in overdue.values():
            check.missing = 0 if check.task.key in running else check.missing + 1
        # Not at the first look: an answer may be on its way.
        return [worker for worker, check in overdue.items() if check.missing >= 3 and not check.task.done()]

    def _judge(self, worker: str, task: Future[str]) -> None:
        from distributed import CancelledError, KilledWorker

        try:
            problem = task.result(timeout=5)
        except (KilledWorker, CancelledError, TimeoutError, OSError):
            self._died(worker)
            return
        except Exception as error:
            problem = unanswered(worker, error)
        else:
            problem = problem and f"worker {worker} {problem}"
        finally:
            task.release()
        if problem:
            self._refuse(worker, problem)
        else:
            self.admitted.add(worker)

    def _refuse(self, worker: str, problem: str) -> None:
        self.refused[worker] = problem
        if not self.admitted:
            raise JobError(problem)
        warnings.warn(f"{problem}. This worker gets no tiles, the others continue.", RuntimeWarning, stacklevel=3)

    def _died(self, worker: str) -> None:
        """Count a worker that left during its checks. One may have been taken away; if several die, the model is the cause."""
        check = self._checks.pop(worker, None)
        if check is not None:
            check.task.release()
        self._deaths += 1
        if not self.admitted and self._deaths >= DEATHS and self.model is not None:
            raise JobError(loading_killed(worker))


def admit(name: str, requirements: Requirements, model: bytes | None) -> str:
    """Check this worker, and let it take part in a run.

    Returns
    -------
    str
        "" if it may take part; otherwise why not, to be read after "worker W".
    """
    try:
        return _admit(name, requirements, model)
    except Exception as error:
        # As text: dask loses an exception whose traceback cannot be pickled, and the client never gets an answer.
        return f"cannot run the checks ({type(error).__name__}: {error}). Fix the problem there, or stop this worker"


def _admit(name: str, requirements: Requirements, model: bytes | None) -> str:
    from distributed import get_worker

    from napari_blockbuster.execution.worker import WorkPlugin

    folder = None if requirements.folder is None else str(requirements.folder)
    problem = requirements.problem(look_around(folder, requirements.settings_file))
    if problem:
        return problem
    plugin = get_worker().plugins[name]
    assert isinstance(plugin, WorkPlugin)
    if model is not None and (problem := load_shipped(model)):
        return f"cannot load the model ({problem}). Fix the problem there"
    # Otherwise the device would wait for it after the first tile. Not beside loading: both import libraries of compiled code.
    _warm_up(plugin)
    plugin.admitted = True
    return ""


def _warm_up(plugin: WorkPlugin) -> None:
    # The first item finds the same error, and reports it.
    with contextlib.suppress(Exception):
        plugin.work.warm_up()
