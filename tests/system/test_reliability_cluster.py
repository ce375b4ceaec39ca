"""Processes that die: drivers, workers, nannies, schedulers. The run goes on, or ends with one sentence."""

from __future__ import annotations

import dataclasses
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusters import remote_cluster
from faults import HALO, TILE, Bench
from faults import N_TILES as FEW
from jobs import N_TILES, OPTIONS, Counting, chunks_of, finish

from napari_blockbuster import Heartbeat, Job, make_local_cluster
from napari_blockbuster.execution.cluster import connect
from napari_blockbuster.machine.errors import ClusterLostError, JobError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


class Slow(Counting):
    """Slow enough that something can happen to it."""

    def __call__(self, pixels: Any) -> Any:
        time.sleep(0.1)
        return super().__call__(pixels)


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[tuple[str, psutil.Process, list[psutil.Process]]]:
    """A scheduler and two nannies as a user starts them: address, scheduler, nannies."""
    with remote_cluster(tmp_path) as cluster:
        yield cluster


# ----------------------------------------------------------------------------------------- the scheduler and its own
GONE = r"Lost connection to the dask scheduler .*Finished tiles are safe. Start a cluster and resume"


def test_a_local_cluster_that_is_killed_ends_the_run_with_a_sentence(image: Path, expected, tmp_path: Path) -> None:
    """The process that holds scheduler and nannies."""
    client, cluster = make_local_cluster(n_workers=2)
    model = Slow(tmp_path / "calls")
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    began = 0.0
    with pytest.raises(ClusterLostError, match=GONE):  # noqa: PT012
        for number, _ in enumerate(job.stage(client)):
            if number == 4:
                os.kill(cluster.pid, signal.SIGKILL)
                began = time.monotonic()
    assert time.monotonic() - began < 40
    client.close(timeout=1)
    cluster.close()
    kept = len(job.staged())
    assert 5 <= kept < N_TILES
    assert job.failed() == {}
    before = model.calls
    assert chunks_of(finish(Job.open(job.folder, model=model))) == expected
    assert model.calls - before == N_TILES - kept


def test_a_remote_scheduler_that_is_killed_and_a_driver_that_comes_back(
    remote: tuple[str, psutil.Process, list[psutil.Process]], image: Path, expected, tmp_path: Path
) -> None:
    address, scheduler, _ = remote
    client = connect(address, n_workers=2)
    model = Slow(tmp_path / "calls")
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    events = job.stage(client)
    for _ in range(4):
        next(events)
    # A driver that leaves: what it staged is kept, the scheduler stays, and another driver takes it from there.
    events.close()
    client.close()
    kept = job.staged()
    client = connect(address, n_workers=2)
    again = Job.open(job.folder, model=model)
    with pytest.raises(ClusterLostError, match=GONE):  # noqa: PT012
        for number, _ in enumerate(again.stage(client)):
            if number == 3:
                scheduler.kill()
    client.close(timeout=1)
    assert len(again.staged()) >= len(kept) + 4
    assert again.failed() == {}
    assert chunks_of(finish(Job.open(job.folder, model=model))) == expected


def _markers(job: Path) -> int:
    return len(list(job.glob("stage*/tiles/*/[0-9]*.tile")))


def _wait_for(condition: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


PATIENT = """
import os, time, uuid, zlib
from scipy import ndimage

def find(pixels):
    tile = zlib.crc32(pixels.tobytes())
    open(os.path.join({log!r}, f"{{tile}}-{{uuid.uuid4().hex}}"), "w").close()
    while os.path.exists({hold!r}):
        time.sleep(0.02)
    return ndimage.label(pixels > 100)[0]
"""


def _held(bench: Bench, n: int) -> bool:
    """Whether the model holds some tiles, and nothing else is being finished."""
    before = bench.calls, _markers(bench.job)
    time.sleep(2)
    return before == (bench.calls, _markers(bench.job)) and before[0] - before[1] == n


def test_a_driver_that_is_killed_and_one_that_follows_at_once_run_no_tile_twice(
    remote: tuple[str, psutil.Process, list[psutil.Process]], peace, tmp_path: Path
) -> None:
    """The workers go on with the tiles of the first driver while the second sends the same ones."""
    bench, hold = Bench.make(tmp_path / "run", peace[0]), tmp_path / "hold"
    log = bench.folder / "calls"
    (bench.folder / "model.py").write_text(PATIENT.format(log=str(log), hold=str(hold)))
    words = [sys.executable, "-m", "napari_blockbuster.cli", *bench.words()]
    at = words.index("--workers")
    words[at : at + 2] = ["--scheduler", remote[0]]
    first = subprocess.Popen(words, start_new_session=True)
    _wait_for(lambda: _markers(bench.job) >= 1)
    hold.touch()
    # A tile that every worker is busy with, and that none may run again.
    _wait_for(lambda: _held(bench, 2))
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(30)
    kept = _markers(bench.job)
    second = subprocess.Popen(words, start_new_session=True, stderr=subprocess.PIPE, text=True)
    _wait_for(lambda: (bench.job / "lock.json").exists() and f'"pid": {second.pid}' in _text(bench.job / "lock.json"))
    time.sleep(2)
    assert bench.calls == kept + 2
    hold.unlink()
    _, errors = second.communicate(timeout=120)
    assert second.returncode == 0, errors
    tiles = Counter(path.name.partition("-")[0] for path in log.iterdir())
    assert len(tiles) == FEW
    assert set(tiles.values()) == {1}, "no tile ran twice, those in flight at the kill included"
    assert bench.result() == peace[1]


def test_a_worker_of_another_cluster_waits_for_one_that_lost_its_driver(
    remote: tuple[str, psutil.Process, list[psutil.Process]], client: Any, peace, tmp_path: Path
) -> None:
    """Not even workers of two clusters run one tile twice, or write it at the same time."""
    bench, hold = Bench.make(tmp_path / "run", peace[0]), tmp_path / "hold"
    hold.touch()
    (bench.folder / "model.py").write_text(PATIENT.format(log=str(bench.folder / "calls"), hold=str(hold)))
    job = Job.create(
        bench.folder / "image.zarr", f"{bench.folder}/model.py:find", bench.output, tile_shape=TILE, halo=HALO
    )
    driver = (
        "from napari_blockbuster import Job; from napari_blockbuster.execution.cluster import connect; "
        f"list(Job.open({str(job.folder)!r}).stage(connect({remote[0]!r}, n_workers=2), tiles=[5]))"
    )
    first = subprocess.Popen([sys.executable, "-c", driver])
    _wait_for(lambda: bench.calls == 1)
    first.kill()
    first.wait(30)
    claim = job.store.claim_file(5)
    assert claim.read_text().startswith("process ")
    events = job.stage(client, tiles=[5], heartbeat=0.2)
    busy = 0
    while busy < 10:
        assert isinstance(next(events), Heartbeat)
        busy += any(client.processing().values())
    assert (bench.calls, _markers(bench.job)) == (1, 0)
    hold.unlink()
    landed = [event for event in events if not isinstance(event, Heartbeat)]
    assert [event.tile.index for event in landed] == [5]
    assert bench.calls == 1
    assert job.store.record(5).pid in [p.pid for nanny in remote[2] for p in nanny.children()]
    assert not claim.exists()


def test_a_tile_that_a_lost_worker_holds_for_too_long_fails_naming_it(client: Any, image: Path, tmp_path: Path) -> None:
    from napari_blockbuster.stage.claims import Claim

    job = Job.create(image, Counting(tmp_path / "calls"), tmp_path / "o.ome.zarr", **OPTIONS)
    claim = Claim.take(job.store.claim_file(3), lambda: False)
    list(job.stage(client, tiles=[2, 3, 4], tile_timeout=3))
    claim.release()
    message = (
        rf"process {os.getpid()} on .* has been working on this tile for more than 3 s.*End that process, and resume"
    )
    assert re.match(message, job.failed()[3].message)
    assert job.staged() == {2, 4}
    list(job.stage(client, tiles=[3]))
    assert 3 in job.staged()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_killed_nannies_and_workers_cost_only_what_they_were_doing(
    remote: tuple[str, psutil.Process, list[psutil.Process]], image: Path, expected, tmp_path: Path
) -> None:
    address, _, nannies = remote
    client = connect(address, n_workers=2)
    model = Slow(tmp_path / "calls")
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    for number, _ in enumerate(job.stage(client)):
        if number == 4:
            # The nanny goes, and its worker notices; the other nanny's worker goes, and the nanny notices.
            nannies[0].kill()
        if number == 9:
            for worker in nannies[1].children():
                worker.kill()
    assert job.failed() == {}
    assert chunks_of(job.write(job.merge("touch", client=client), client).path) == expected
    assert model.calls <= N_TILES + 4
    client.close()


# ---------------------------------------------------------------------------------------------------------- pre-flight
def test_workers_of_another_version_are_refused(client: Any, image: Path, tmp_path: Path) -> None:
    """Told before the first tile, with the numbers: the workers' metadata are made to say another version."""

    def pretend(version: str | None) -> None:
        from importlib import metadata

        if version is None:
            metadata.version = metadata.real_version
        else:
            metadata.real_version = metadata.version
            metadata.version = lambda name: version if name == "numpy" else metadata.real_version(name)

    model = Counting(tmp_path / "calls")
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    client.run(pretend, "1.0.1")
    try:
        message = r"worker .* has numpy 1\.0\.1, this process has .*\. Install numpy .* on the workers"
        with pytest.raises(JobError, match=message):
            next(job.stage(client))
    finally:
        client.run(pretend, None)
    assert model.calls == 0


class Unloadable:
    """A function that cannot be unpickled where it is not at home: a package that is not installed there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return __import__, ("a_package_that_is_not_there",)

    def __call__(self, pixels: Any) -> Any:
        return pixels


def test_a_model_that_workers_cannot_load_is_refused(client: Any, image: Path, tmp_path: Path) -> None:
    job = Job.create(image, Unloadable(), tmp_path / "o.ome.zarr", **OPTIONS)
    message = r"The model cannot be loaded on worker .*No module named 'a_package_that_is_not_there'"
    with pytest.raises(JobError, match=message):
        next(job.stage(client))
    assert job.failed() == {}


def test_a_model_that_cannot_be_loaded_here_is_refused(image: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import a_package_that_is_not_there\ndef find(pixels):\n    return pixels\n")
    job = Job.create(image, f"{tmp_path}/mine.py:find", tmp_path / "o.ome.zarr", **OPTIONS)
    with pytest.raises(
        JobError, match=r"model cannot be loaded here \(.*No tile was started. Fix the problem and resume"
    ):
        next(job.stage())


def test_workers_that_do_not_see_the_job_are_refused(client: Any, image: Path, tmp_path: Path) -> None:
    """A disk of this machine alone: here the workers' view of it is changed by what they read at the same path."""
    from napari_blockbuster.execution.admission.admission import Requirements, look_around

    job = Job.create(image, "threshold", tmp_path / "o.ome.zarr", **OPTIONS)
    there = dataclasses.replace(look_around(str(tmp_path / "nowhere")), place=("node17", 1))
    message = r"does not see the job folder .*\. Put the output on a disk that all machines share"
    assert re.match(message, Requirements.of(job.folder).problem(there))


# ------------------------------------------------------------------------------------ drivers with their own cluster
def _killed_with_cluster(bench: Bench, peace: dict[str, bytes], seed: int, seconds: float) -> str:
    """A command line with two processes, killed as a whole group, and gone on with in this process."""
    chance = random.Random(seed)
    command = [sys.executable, "-m", "napari_blockbuster.cli"]
    devnull = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    process = subprocess.Popen([*command, *bench.words(2)], **devnull)
    number = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    wanted = chance.randrange(FEW)
    deadline = time.monotonic() + 60
    while process.poll() is None and bench.markers < wanted and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(chance.uniform(0, seconds))
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    if process.poll() is None:
        os.killpg(process.pid, number)
    process.wait(60)
    _, alive = psutil.wait_procs(family, timeout=30)
    story = f"seed {seed}: {number.name} after {wanted} tiles, exit {process.returncode}"
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE], f"{story}: processes are left"
    staged, calls, written = bench.markers, bench.calls, bench.output.exists()
    done = subprocess.run([*command, *bench.words(0)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 or (written and done.returncode == 2), f"{story}\n{done.stderr}"
    assert bench.calls - calls == (0 if written else FEW - staged), story
    assert bench.result() == peace, story
    return story


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    bench = Bench.make(tmp_path_factory.mktemp("peace") / "run")
    command = [sys.executable, "-m", "napari_blockbuster.cli", *bench.words(0)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return bench.folder / "image.zarr", bench.result()


@pytest.mark.parametrize("seed", [0])
def test_a_driver_killed_with_its_cluster_goes_on(seed: int, peace, tmp_path: Path) -> None:
    _killed_with_cluster(Bench.make(tmp_path / "run", peace[0]), peace[1], seed, 0.3)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_fifty_drivers_killed_with_their_clusters_go_on(peace, tmp_path: Path) -> None:
    for seed in range(100, 150):
        print(_killed_with_cluster(Bench.make(tmp_path / str(seed), peace[0]), peace[1], seed, 0.5), flush=True)
