"""Who holds a job: clocks that are set, process numbers of other namespaces, other hosts, and drivers that are stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from jobs import OPTIONS, components, write_image

from napari_blockbuster import Heartbeat, Job
from napari_blockbuster.detached import follow
from napari_blockbuster.detached.files import DriverState
from napari_blockbuster.job.folder.lock import JobLockedError, Lock, holding
from napari_blockbuster.machine import patience
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.machine.processes import ProcessIdentity, is_stopped

HOLD = """
import sys, time
from pathlib import Path
from napari_blockbuster.job.folder.lock import holding
with holding(Path(sys.argv[1]), "stage"):
    print("held", flush=True)
    time.sleep(600)
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="namespaces and /proc of Linux")


@contextmanager
def held(lock: Path, *before: str) -> Iterator[subprocess.Popen[str]]:
    """Hold a lock in another process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [*before, sys.executable, "-c", HOLD, str(lock)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "held\n":
            pytest.skip("this system lets nobody make namespaces")
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def refused(lock: Path, holder: str) -> bool:
    """Whether the lock is refused, naming its holder; it is free afterwards otherwise."""
    try:
        with holding(lock, "write"):
            return False
    except JobLockedError as error:
        return holder in str(error)


@linux
def test_a_holder_is_alive_whatever_the_clock_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with held(tmp_path / "lock.json"):
        created = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: created(process) + 3600)
        monkeypatch.setattr(time, "time", lambda real=time.time: real() + 3600)
        assert refused(tmp_path / "lock.json", "is in use by process")
    assert not refused(tmp_path / "lock.json", "")


@linux
def test_a_stopped_holder_is_alive(tmp_path: Path) -> None:
    with held(tmp_path / "lock.json") as process:
        process.send_signal(signal.SIGSTOP)
        while not is_stopped(process.pid):
            time.sleep(0.01)
        assert refused(tmp_path / "lock.json", f"process {process.pid}")


def test_two_processes_that_start_a_run_at_once_do_not_refuse_each_other(tmp_path: Path) -> None:
    """The one that comes too late to make the job holds its lock for a moment, while the other one begins to stage."""
    path = tmp_path / "lock.json"
    late = Lock(path, "create")
    late.acquire()
    threading.Timer(0.7, late.release).start()
    with holding(path, "stage"):
        pass
    with holding(path, "stage"):
        began = time.monotonic()
        assert refused(path, f"process {os.getpid()}")
        assert time.monotonic() - began < 1, "who stages is not waited for"


def test_a_lock_from_the_future_holds_a_job_no_longer_than_one_from_the_past(tmp_path: Path) -> None:
    lock = tmp_path / "lock.json"
    lock.write_text(json.dumps({"host": "node17", "pid": 1, "since": 0, "doing": "stage", "token": "other"}))
    os.utime(lock, (time.time() + 86_400,) * 2)
    assert not refused(lock, "")


@linux
@pytest.mark.parametrize("host", ["the same hostname", "another hostname"])
def test_a_holder_in_another_container_is_known_by_its_signs_of_life(tmp_path: Path, host: str) -> None:
    """Its process number means another process here, or none."""
    lock = tmp_path / "lock.json"
    container = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if host == "another hostname":
        container += ["--uts", "--net", "sh", "-c", 'hostname nodeb && exec "$@"', "sh"]
    with held(lock, *container):
        known = ProcessIdentity.parse(json.loads(lock.read_bytes()))
        assert known is not None
        assert known.is_alive() is None
        os.utime(lock, (time.time() - 200,) * 2)
        assert refused(lock, "nodeb" if host == "another hostname" else "process ")
    # Gone, and not known to be: its last sign of life is too recent, and then it is not.
    assert refused(lock, "5 minutes after its last sign of life")
    os.utime(lock, (time.time() - 400,) * 2)
    assert not refused(lock, "")


@linux
def test_a_follower_says_that_the_driver_is_asleep(image: Path, tmp_path: Path) -> None:
    job = Job.create(image, components, tmp_path / "o.ome.zarr", **OPTIONS)
    with held(job.files.driver_lock) as process:
        state = DriverState(token="t", host="here", pid=process.pid, since=0.0, scheduler="tcp://", n_tiles=job.n_tiles)
        job.files.driver_state.write_text(state.model_dump_json())
        os.kill(process.pid, signal.SIGSTOP)
        os.utime(job.files.driver_lock, (time.time() - 70,) * 2)
        said = ""
        for event in follow(job, look=0.1):
            assert isinstance(event, Heartbeat)
            if said := event.waits_for:
                break
        assert said.startswith(f"a sign of life of the driver (process {process.pid} on here")
        assert "stopped or asleep" in said


def test_a_standard_output_that_is_closed_is_no_failure_of_the_run(image: Path, tmp_path: Path) -> None:
    words = ["segment", str(image), "--model", "threshold", "-o", str(tmp_path / "o.ome.zarr"), "--workers", "0"]
    shell = [shutil.which("sh") or "sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "napari_blockbuster.cli"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [*shell, *words], stderr=subprocess.PIPE, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "o.ome.zarr" / "zarr.json").exists()


@linux
@pytest.mark.parametrize("begin", ["create", "resume"])
def test_a_wait_for_pixels_that_do_not_arrive_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: str
) -> None:
    """A chunk of the image is a pipe into which nobody writes."""
    path = write_image(tmp_path / "image.zarr")
    job = Job.create(path, components, tmp_path / "o.ome.zarr", **OPTIONS)
    chunk = path / "c" / "0" / "0" / "0"
    chunk.unlink()
    os.mkfifo(chunk)
    monkeypatch.setattr(patience, "PATIENCE", 0.2)
    told: list[str] = []

    def tell(message: Warning | str, *_: object, **__: object) -> None:
        told.append(str(message))
        # The end of the wait: a chunk that is empty.
        os.close(os.open(chunk, os.O_WRONLY))

    monkeypatch.setattr(warnings, "showwarning", tell)
    # What an empty chunk means is another matter.
    with warnings.catch_warnings(), contextlib.suppress(OSError, JobError):
        warnings.simplefilter("always", patience.WaitWarning)
        if begin == "create":
            Job.create(path, components, tmp_path / "p.ome.zarr", **OPTIONS)
        else:
            list(Job.open(job.folder, model=components).stage())
    assert told[0].startswith(
        "Still waiting for pixels to recognize the image by (a disk or server that does not answer"
    )
