"""Processes that are stopped and not killed: a scheduler or a worker that never answers. Each wait ends, with a sentence."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from faults import Bench, run_out, start
from forked import fork_server
from jobs import N_TILES, OPTIONS, Counting, chunks_of, finish

from napari_blockbuster import Job, TileFailed, TileStaged, make_local_cluster
from napari_blockbuster.execution.cluster_run import deadlines
from napari_blockbuster.machine.errors import ClusterLostError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
SILENT = r"Lost connection to the dask scheduler \(the scheduler does not answer: .* 4 s\)\. Finished tiles are safe\."


class Slow(Counting):
    """Slow enough that something can happen to it."""

    def __call__(self, pixels: Any) -> Any:
        time.sleep(0.1)
        return super().__call__(pixels)


@contextlib.contextmanager
def cluster_of_two() -> Iterator[tuple[Any, Any, list[psutil.Process]]]:
    """A client, its cluster, and its worker processes, all of which are gone afterwards."""
    client, cluster = make_local_cluster(n_workers=2)
    family = psutil.Process(cluster.pid).children(recursive=True)
    try:
        yield client, cluster, family
    finally:
        with contextlib.suppress(Exception):
            client.close(timeout=1)
        cluster.close()
    left = psutil.wait_procs(family, 20)[1]
    assert not left, "the workers end with the interpreter of their cluster"


def test_a_scheduler_that_stops_answering_ends_the_run_with_a_sentence(image: Path, expected, tmp_path: Path) -> None:
    model = Slow(tmp_path / "calls")
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    waited: set[str] = set()
    with dask.config.set({"napari-blockbuster.scheduler-timeout": "4s"}), cluster_of_two() as (client, cluster, _):
        with pytest.raises(ClusterLostError, match=SILENT):  # noqa: PT012
            for number, event in enumerate(job.stage(client, heartbeat=0.2)):
                waited.add(getattr(event, "waits_for", ""))
                if number == 4:
                    os.kill(cluster.pid, signal.SIGSTOP)
                    began = time.monotonic()
        assert time.monotonic() - began < 30
    kept, before = len(job.staged()), model.calls
    assert kept < N_TILES
    assert chunks_of(finish(Job.open(job.folder, model=model))) == expected
    assert model.calls - before == N_TILES - kept


def test_cancel_ends_a_run_whose_scheduler_does_not_answer(image: Path, tmp_path: Path) -> None:
    job = Job.create(image, Slow(tmp_path / "calls"), tmp_path / "o.ome.zarr", **OPTIONS)
    with cluster_of_two() as (client, cluster, _):
        events = job.stage(client, heartbeat=0.2)
        # The workers have been asked by then, which would be another wait.
        next(event for event in events if isinstance(event, TileStaged))
        os.kill(cluster.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 8
        said = ""
        while time.monotonic() < deadline:
            said = said or getattr(next(events), "waits_for", "")
        job.cancel()
        began = time.monotonic()
        list(events)
        assert time.monotonic() - began < 5
        assert said == "an answer of the scheduler"


COMPLAIN = """
import logging, psutil, threading, time

def complain():
    # As a worker of dask does whose scheduler does not answer.
    if "complain" not in {thread.name for thread in threading.enumerate()}:
        threading.Thread(target=wait, name="complain", daemon=True).start()

def wait():
    cluster = psutil.Process().parent()
    while cluster.status() != psutil.STATUS_STOPPED:
        time.sleep(0.05)
    try:
        raise OSError("no answer")
    except OSError:
        logging.getLogger("distributed.worker").exception("Failed to communicate with scheduler during heartbeat.")
"""


def test_ctrl_c_ends_a_command_whose_scheduler_does_not_answer(tmp_path: Path) -> None:
    bench = Bench.make(tmp_path / "b")
    text = (bench.folder / "model.py").read_text()
    text = text.replace("    open(", "    complain(); time.sleep(0.5)\n    open(")
    (bench.folder / "model.py").write_text(text + COMPLAIN)
    process = start(fork_server(), bench, bench.words(2))
    deadline = time.monotonic() + 90
    while bench.markers < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    (scheduler,) = [
        each for each in family if "napari_blockbuster.execution.local_cluster.process" in " ".join(each.cmdline())
    ]
    scheduler.suspend()
    time.sleep(2)
    os.kill(process.pid or 0, signal.SIGINT)
    began = time.monotonic()
    assert run_out(process) == 130
    assert time.monotonic() - began < 20
    said = (bench.folder / "errors").read_text()
    assert "To resume: napari-blockbuster resume" in said
    assert "Traceback" not in said
    assert "distributed" not in said
    assert not psutil.wait_procs(family, 20)[1]


def test_a_stopped_worker_with_a_time_limit_is_a_hang(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of the limit is stopped with the worker: the driver has one of its own."""
    monkeypatch.setattr(deadlines, "GRACE", 1.0)
    monkeypatch.setattr(deadlines, "KILLING", 2.0)
    job = Job.create(image, Slow(tmp_path / "calls"), tmp_path / "o.ome.zarr", **OPTIONS)
    with cluster_of_two() as (client, _, family):
        events = job.stage(client, heartbeat=0.2, tile_timeout=12)
        *_, first = itertools.islice((event for event in events if isinstance(event, TileStaged)), 4)
        psutil.Process(first.record.pid).suspend()
        began = time.monotonic()
        failures = [event.failure.message for event in events if isinstance(event, TileFailed)]
        assert time.monotonic() - began < 120
        assert all("no result within the time limit of 12 s" in message for message in failures)
        assert len(job.staged()) + len(failures) == N_TILES
        assert not psutil.pid_exists(first.record.pid) or first.record.pid not in {
            p.pid for p in family if p.is_running()
        }


def test_a_driver_that_was_asleep_does_not_take_its_scheduler_for_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_blockbuster.execution import waits

    clock = waits.AwakeClock()
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + 3600)
    assert clock.now() <= waits.AwakeClock.STEP
    assert clock.now() < waits.AwakeClock.STEP + 1
