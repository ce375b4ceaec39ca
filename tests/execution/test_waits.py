"""Every wait on a cluster ends: its worker is gone, the run was canceled, or time is up. Workers are checked when they join."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from jobs import N_TILES, OPTIONS, Counting, chunks_of

from napari_blockbuster import Heartbeat, Job, make_local_cluster
from napari_blockbuster.execution.cluster import check_client, connect
from napari_blockbuster.execution.local_cluster import starter as local_cluster
from napari_blockbuster.machine.errors import ClusterLostError, JobError


@pytest.fixture
def empty_scheduler(tmp_path: Path) -> Iterator[str]:
    """A scheduler without workers."""
    file = tmp_path / "scheduler.json"
    words = [sys.executable, "-m", "dask", "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield str(file)
    process.kill()
    process.wait(30)


class Loading(Counting):
    """Runs something where it is loaded in another process than the one that made it."""

    def __init__(self, log: Path, text: str) -> None:
        super().__init__(log)
        self.text = text

    def __reduce__(self) -> tuple:
        return eval, (f"(lambda: exec({self.text!r}))() or __import__('jobs').components",)


def test_a_model_whose_loading_kills_its_worker_ends_the_run(image: Path, tmp_path: Path) -> None:
    client, cluster = make_local_cluster(n_workers=2)
    with cluster, client:
        model = Loading(tmp_path / "calls", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
        job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
        with pytest.raises(JobError, match=r"Loading the model killed worker tls://.*give workers more memory"):
            list(job.stage(client))
    assert not (job.folder / "lock.json").exists()


def test_cancel_ends_a_run_that_waits(empty_scheduler: str, client, image: Path, tmp_path: Path) -> None:
    """For a worker that there is none of; and for one that loads its model for long."""
    alone = connect(empty_scheduler)
    slow = Loading(tmp_path / "calls", "import time; time.sleep(15)")
    for number, (workers, model) in enumerate([(alone, "threshold"), (client, slow)]):
        job = Job.create(image, model, tmp_path / f"{number}.ome.zarr", **OPTIONS)
        threading.Timer(2, job.cancel).start()
        began = time.monotonic()
        events = list(job.stage(workers, heartbeat=0.2))
        assert 1.5 < time.monotonic() - began < 8
        assert all(isinstance(event, Heartbeat) for event in events)
        assert any("worker" in event.waits_for for event in events)
    alone.close()


def test_a_cluster_without_workers_ends_the_run_after_its_time(
    empty_scheduler: str, image: Path, tmp_path: Path
) -> None:
    job = Job.create(image, "threshold", tmp_path / "o.ome.zarr", **OPTIONS)
    client = connect(empty_scheduler)
    with (
        dask.config.set({"napari-blockbuster.worker-timeout": "2s"}),
        pytest.raises(ClusterLostError, match=r"has had no worker for 2 s.*Start workers and resume"),
    ):
        list(job.stage(client))
    client.close()


class Held(Counting):
    """Holds every tile until `release` exists."""

    @property
    def release(self) -> Path:
        return self.log.with_name("release")

    def __call__(self, pixels):
        labels = super().__call__(pixels)
        deadline = time.monotonic() + 120
        while not self.release.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return labels


# dask loads a preload module twice.
LIE = """
from importlib import metadata
real = metadata.__dict__.setdefault("real", metadata.version)
metadata.version = lambda name: "1.0.1" if name == "numpy" else real(name)
"""
BROKEN = """
from importlib import metadata
metadata.version = lambda name: metadata.version(name)
"""
MUTE = """
import napari_blockbuster.execution.admission.admission as admission
def admit(*arguments):
    return admit(*arguments)
admission.admit = admit
"""


@pytest.mark.parametrize(
    ("preload", "message"),
    [
        pytest.param(LIE, "has numpy 1.0.1", id="other-version"),
        pytest.param(BROKEN, r"cannot run the checks \(RecursionError", id="checks-raise"),
        # dask never passes on an exception whose traceback is so deep that it cannot be pickled.
        pytest.param(MUTE, "did not answer the checks. Its log has the error", id="error-does-not-arrive"),
    ],
)
def test_a_worker_that_joins_late_is_checked_before_it_gets_a_tile(
    preload: str, message: str, empty_scheduler: str, image: Path, expected, tmp_path: Path
) -> None:
    good = [sys.executable, "-m", "dask", "worker", "--scheduler-file", empty_scheduler, "--nthreads", "1"]
    (tmp_path / "preload.py").write_text(preload)
    place = ["--no-dashboard", "--local-directory", str(tmp_path), "--no-nanny"]

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    processes = [subprocess.Popen([*good, *place], **options)]
    client = connect(empty_scheduler, n_workers=1)
    model = Held(tmp_path / "calls")
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in job.stage(client, heartbeat=0.2):
                if model.calls and len(processes) == 1:
                    late = ["--preload", str(tmp_path / "preload.py")]
                    processes.append(subprocess.Popen([*good, *place, *late], **options))
                if any(re.search(message, str(warning.message)) for warning in told):
                    model.release.touch()
        assert any(re.search(message, str(warning.message)) for warning in told)
        assert len({job.store.record(index).pid for index in range(N_TILES)}) == 1
        assert chunks_of(job.write(job.merge("touch", client=client)).path) == expected
    finally:
        client.close()
        for process in processes:
            process.kill()
            process.wait(30)


def test_a_local_cluster_accepts_only_its_own_clients() -> None:
    from distributed import Client
    from distributed.security import Security

    client, cluster = make_local_cluster(n_workers=1)
    with cluster, client:
        assert cluster.scheduler_address.startswith("tls://127.0.0.1:")
        addresses = [cluster.scheduler_address, *client.nthreads()]
        assert all(address.startswith("tls://") for address in addresses)
        with pytest.raises(ConnectionError, match="requires TLS certificates"):
            connect(cluster.scheduler_address, timeout=2)
        with pytest.raises(ConnectionError, match="no dask scheduler answers"):
            connect(cluster.scheduler_address.replace("tls", "tcp"), timeout=2)
        with pytest.raises(ConnectionError, match="no dask scheduler answers"):
            connect(cluster.scheduler_address, security=Security.temporary(), timeout=3)
        with Client(cluster.scheduler_address, security=cluster.security, set_as_default=False) as second:
            assert second.submit(int, 3).result(timeout=60) == 3
        words = (
            " ".join(Path(f"/proc/{cluster.pid}/cmdline").read_text().split("\0")) if sys.platform == "linux" else ""
        )
        assert "PRIVATE KEY" not in words


def test_a_connection_that_fails_leaves_no_client_to_the_garbage_collector() -> None:
    """dask would close it at any time, also while another client starts, and both then wait for one lock."""
    before = {thread for thread in threading.enumerate() if thread.name == "IO loop"}
    gc.disable()
    try:
        for address in ("tcp://127.0.0.1:9", "tls://127.0.0.1:9", "nonsense://x"):
            with pytest.raises(ConnectionError):
                connect(address, timeout=0.5)
        assert {thread for thread in threading.enumerate() if thread.name == "IO loop"} == before
    finally:
        gc.enable()


def test_a_cluster_that_does_not_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_cluster, "START", 0.05)
    with pytest.raises(RuntimeError, match=r"did not start within 0 s\. The machine or its disk is very busy"):
        make_local_cluster(n_workers=1)


def test_a_worker_that_never_answers_does_not_hold_up_a_client(client) -> None:
    """Only a worker with the process id of this process is asked where it runs."""
    worker, *_ = client.scheduler_info()["workers"]
    pid = client.run(os.getpid, workers=[worker])[worker]
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        check_client(client)
        assert time.monotonic() - began < 30
    finally:
        os.kill(pid, signal.SIGCONT)
