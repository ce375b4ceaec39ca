"""Start a detached run: a driver process next to the cluster that outlives this one.

A worker starts the driver on its machine, in a session of its own, so that it outlives the worker. The driver receives image
handle, model and settings through its standard input. They are never on disk as a pickle: opening a job folder runs no code.
The driver is then an ordinary client of the scheduler. Files report its state and request that it stop
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
from napari_blockbuster.job.folder.lock import JobLockedError
from napari_blockbuster.job.setup import preflight
from napari_blockbuster.job.shell import command
from napari_blockbuster.job.steps.completion import Finish
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
"""Seconds for a driver to start. It checks the workers again, which loads the model."""


@dataclass(frozen=True)
class Request:
    """The request that is sent to a driver.

    Attributes
    ----------
    folder : Path
        The job folder, under the path that all machines share.
    settings : str
        The text of its ``job.json``, as the process that detaches the run reads it.
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
        return self.model.functions


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
            "The run of an image in memory cannot be detached, because the image is lost when this process ends. "
            "Save the image as zarr (zarr.save_array) and segment the copy."
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
    """Refuse a second driver. The lock would do so a few seconds later, without the command to follow the first one."""
    if (other := DriverFiles(folder).at_work()) is not None:
        follow = command(["attach", str(folder)])
        raise JobLockedError(f"A detached driver is running on {folder}: {other.place}. To follow it: {follow}")


def _ask_a_worker(client: Client, blob: bytes, folder: Path) -> dict[str, Any]:
    worker = (complete(some_workers(client)) or [""])[0]
    # Not as a task, which would wait until the worker has finished its other tasks.
    start = functools.partial(client.run, launch, blob, str(folder), workers=[worker])
    try:
        answer: dict[str, Any] = ask(start, f"worker {worker}, which starts the driver", STARTED)[worker]
    except (OSError, KeyError, TimeoutError) as error:
        follow = command(["attach", str(folder)])
        raise JobError(
            f"Worker {worker} was lost while it started the driver ({type(error).__name__}: {error}). "
            f"To check whether the driver runs: {follow}"
        ) from error
    return answer


# ------------------------------------------------------------------------------------------------------ on the worker
async def launch(blob: bytes, folder: str, dask_worker: Any = None) -> dict[str, Any]:
    """Start a driver on the machine of this worker and wait until it runs. No thread of the worker is occupied.

    Returns
    -------
    dict
        The state of the driver, or the reason why it was ``refused`` and the ``kind`` of error.
    """
    # The address that the workers use: the client may have connected through a tunnel.
    blob = pickle.dumps(_as_client(dask_worker.security)) + blob
    return await asyncio.to_thread(_start, blob, folder, dask_worker.scheduler.address)


def _as_client(worker: Any) -> Any:
    """Return the certificates of a worker for a client on the same machine."""
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
        return _refusal(f"The driver could not be started on {socket.gethostname()}: {error}")
    # Waited for, so that no zombie process remains.
    threading.Thread(target=process.wait, name="blockbuster-driver", daemon=True).start()
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(blob)
    with process.stdout:
        answer = process.stdout.readline()
    if answer:
        return dict(json.loads(answer))
    return _refusal(f"The driver did not start (exit code {process.wait()}). See {log}.")


def _spawn(folder: str, scheduler: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "napari_blockbuster.detached.driver", scheduler],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            # Not the folder of the worker, which is deleted with the worker.
            cwd=folder,
            # Modules that can be imported here can be imported there.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            # The driver outlives the worker, its nanny, and a Ctrl-C in their terminal.
            **new_session(),
        )


def _refusal(error: str) -> dict[str, Any]:
    return {"kind": JobError.__name__, "refused": error}
