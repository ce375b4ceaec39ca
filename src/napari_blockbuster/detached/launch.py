"""Leaving a run alone: a driver of its own, started beside the cluster, that goes on when this process ends.

A worker starts it on its machine, as a process in a session of its own, so that it outlives the worker. What it needs
(image handle, model, settings) comes through its standard input, and never lies on the disk as a pickle: opening a job
folder runs no code. From then on it is a client of the scheduler like any other, and is seen and stopped through files
(`napari_blockbuster.detached.files`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_blockbuster.execution.serialization import pickle_work
from napari_blockbuster.execution.waits import ask, complete, some_workers
from napari_blockbuster.job import preflight
from napari_blockbuster.job.completion import Finish
from napari_blockbuster.job.lock import JobLockedError
from napari_blockbuster.job.shell import command
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.system import new_session

from .files import DriverFiles, DriverState

if TYPE_CHECKING:
    from distributed import Client

    from napari_blockbuster.images import ImageSource
    from napari_blockbuster.job.job import Job
    from napari_blockbuster.models import Model

__all__ = ["Request", "detach", "launch"]

STARTED = 3600.0
"""Seconds for a driver to start: it checks the workers again, which loads the model."""


@dataclass(frozen=True)
class Request:
    """What a driver is asked to do, as it travels to it.

    Attributes
    ----------
    folder : Path
        The job folder, under the path that all machines know.
    settings : str
        Its ``job.json``, as the one who asks sees it.
    """

    folder: Path
    settings: str
    source: ImageSource
    model: Model
    asked: Finish
    tile_timeout: float | None

    @property
    def functions(self) -> list[Any]:
        """Functions of the user's that must travel along."""
        function = getattr(self.model, "function", None)
        return [] if function is None else [function]


def detach(job: Job, client: Client, *, tile_timeout: float | None = None, **options: Any) -> DriverState:
    """Detach a run: start a driver process next to the cluster, which finishes the run after this process ends.

    Parameters
    ----------
    job : Job
    client : distributed.Client
        Of a scheduler that outlives this process.
    tile_timeout : float, optional
        See `Job.stage`.
    **options
        The options of `napari_blockbuster.segment` for the steps after the tiles: ``merge``, ``min_iou``, ``connectivity``,
        ``sequential_labels``, ``filter``, ``keep_stage``, ``overwrite``, ``ome_zarr_version``.

    Returns
    -------
    DriverState
        The running driver (``host``, ``pid``). Everything that `Job.stage` would refuse has been refused.

    Raises
    ------
    JobLockedError
        If another process works on this job.
    JobError
        If the image is in memory, or for any reason that `Job.stage` gives.
    FileExistsError
        If the output exists and is not this job's own, without ``overwrite=True``.
    """
    asked = Finish(**options)
    job.check_ready()
    source, model = job.inputs.ready()
    if not source.shippable:
        raise JobError(
            "an image in memory goes when this process goes, so its run cannot be detached: "
            "save the image as zarr first (zarr.save_array), and segment that"
        )
    preflight.check_time_limit(tile_timeout, client)
    preflight.check_output(Path(job.spec.output), source, asked.overwrite)
    job.files.check_stage()
    _refuse_second(job.folder)
    preflight.check_workers(client, job.folder, model)
    request = Request(job.folder, job.files.settings_text(), source, model, asked, tile_timeout)
    answer = _ask_a_worker(client, pickle_work(request), job.folder)
    if "refused" in answer:
        kind = JobLockedError if answer["kind"] == JobLockedError.__name__ else JobError
        raise kind(answer["refused"])
    return DriverState.model_validate(answer)


def _refuse_second(folder: Path) -> None:
    """The lock would do it as well, a few seconds later; this one says what to do instead."""
    if (other := DriverFiles(folder).at_work()) is not None:
        look_in = command(["attach", str(folder)])
        raise JobLockedError(f"a detached driver is at work on {folder}: {other.place}; look in with: {look_in}")


def _ask_a_worker(client: Client, blob: bytes, folder: Path) -> dict[str, Any]:
    worker = (complete(some_workers(client)) or [""])[0]
    # Not as a task: it would wait until a worker is done with what it does for others.
    start = functools.partial(client.run, launch, blob, str(folder), workers=[worker])
    try:
        answer: dict[str, Any] = ask(start, f"worker {worker}, which starts the driver", STARTED)[worker]
    except (OSError, KeyError, TimeoutError) as error:
        look_in = command(["attach", str(folder)])
        raise JobError(
            f"worker {worker} was lost while it started the driver ({type(error).__name__}: {error}); "
            f"see whether it is there with: {look_in}"
        ) from error
    return answer


# ------------------------------------------------------------------------------------------------------ on the worker
async def launch(blob: bytes, folder: str, dask_worker: Any = None) -> dict[str, Any]:
    """Start a driver on this worker's machine and wait until it is at work; occupies none of the worker's threads.

    Returns
    -------
    dict
        The driver's state, or why it was ``refused`` and the ``kind`` of error that this is.
    """
    # As the workers know it: the client may have come through a tunnel.
    blob = pickle.dumps(_as_client(dask_worker.security)) + blob
    return await asyncio.to_thread(_start, blob, folder, dask_worker.scheduler.address)


def _as_client(worker: Any) -> Any:
    """The certificates of a worker, for a client beside it."""
    from distributed.security import Security

    if not worker.tls_ca_file:
        return worker
    return Security(
        require_encryption=worker.require_encryption,
        tls_ca_file=worker.tls_ca_file,
        tls_client_cert=worker.tls_client_cert or worker.tls_worker_cert,
        tls_client_key=worker.tls_client_key or worker.tls_worker_key,
    )


def _start(blob: bytes, folder: str, scheduler: str) -> dict[str, Any]:
    log = DriverFiles(Path(folder)).log
    try:
        process = _spawn(folder, scheduler, log)
    except OSError as error:
        return _refusal(f"the driver cannot be started on {socket.gethostname()}: {error}")
    # Whoever starts a process has to wait for its end, or it stays in the table of processes.
    threading.Thread(target=process.wait, name="blockbuster-driver", daemon=True).start()
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(blob)
    with process.stdout:
        answer = process.stdout.readline()
    if answer:
        return dict(json.loads(answer))
    return _refusal(f"the driver did not start (exit code {process.wait()}); {log} says why")


def _spawn(folder: str, scheduler: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "napari_blockbuster.detached.driver", scheduler],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            # Not the worker's own folder, which goes when the worker does.
            cwd=folder,
            # What can be imported here can be imported there.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            # It outlives this worker, its nanny, and a Ctrl-C in the terminal that they were started from.
            **new_session(),
        )


def _refusal(error: str) -> dict[str, Any]:
    return {"kind": JobError.__name__, "refused": error}
