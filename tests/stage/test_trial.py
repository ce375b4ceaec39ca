"""The first tile is a trial: what fails everywhere ends the run after three tiles, and what fails once does not."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import zarr
from jobs import HALO, N_TILES, OPTIONS, SHAPE, TILE, Counting, chunks_of, finish

from napari_blockbuster import Job, TileGrid, make_local_cluster
from napari_blockbuster.execution.cluster import connect
from napari_blockbuster.job.setup import preflight
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.stage.records.records import TileFailure, TileRecord
from napari_blockbuster.stage.trial import TrialError, TrialQueue

GRID = TileGrid(SHAPE, TILE, HALO)


class Refusing(Counting):
    """Fails on every tile, or on those whose pixels are given."""

    def __init__(self, log: Path, bad: set[bytes] | None = None) -> None:
        super().__init__(log)
        self.bad = bad

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        labels = super().__call__(pixels)
        if self.bad is None or pixels.tobytes() in self.bad:
            raise ZeroDivisionError("no photons")
        return labels


@pytest.fixture(params=["threads", "cluster"])
def workers(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("client") if request.param == "cluster" else None


# ---------------------------------------------------------------------------------------------------------------- a run
def test_a_model_that_fails_everywhere_is_found_out_after_three_tiles(workers, image: Path, tmp_path: Path) -> None:
    model = Refusing(tmp_path / "calls")
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    events = []
    with pytest.raises(TrialError) as error:  # noqa: PT012
        for event in job.stage(workers):
            events.append(event)
    assert "the first 3 tiles, in different places of the image, all failed, so the others were not tried" in str(
        error.value
    )
    assert "ZeroDivisionError: no photons" in str(error.value)
    assert "Fix the problem and resume" in str(error.value)
    assert model.calls == 2 * 3, "each of the three is tried twice, and no other"
    places = sorted(job.failed())
    assert places == sorted(event.tile.index for event in events)
    assert max(places) - min(places) > N_TILES / 2


def test_a_run_that_was_given_up_goes_on_once_the_model_is_mended(workers, image, expected, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    options = {**OPTIONS, "output": tmp_path / "o.ome.zarr"}
    body = "    from scipy import ndimage\n    return ndimage.label(pixels > 100)[0]\n"
    check = (
        f"    import os\n    if not os.path.exists({str(tmp_path / 'gpu')!r}):\n        raise OSError('no device')\n"
    )
    path.write_text(f"def find(pixels):\n{check}{body}")
    with pytest.raises(TrialError, match="no device"):
        list(Job.create(image, f"{path}:find", **options).stage(workers))
    (tmp_path / "gpu").touch()
    assert chunks_of(finish(Job.create(image, f"{path}:find", **options), workers)) == expected


def test_one_bad_corner_costs_only_itself(workers, image: Path, tmp_path: Path) -> None:
    """The first tile of the order fails; the next trial is far from it, and the rest follows."""
    pixels = zarr.open_array(str(image), mode="r")
    bad = set(GRID.order()[:4])
    model = Refusing(tmp_path / "calls", {pixels[GRID[i].read.slices].tobytes() for i in bad})
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    events = list(job.stage(workers))
    assert set(job.failed()) == bad
    assert job.staged() == set(range(N_TILES)) - bad
    assert model.calls == N_TILES + len(bad)
    assert abs(events[1].tile.index - events[0].tile.index) > 3, "the second trial is far from the first"


def test_each_worker_has_one_tile_out_until_a_tile_is_through(client, image: Path, tmp_path: Path) -> None:
    n_workers = len(client.nthreads())
    job = Job.create(image, Counting(tmp_path / "calls"), tmp_path / "o.ome.zarr", **OPTIONS)
    events = job.stage(client)
    next(events)
    assert len(job.taken()) <= min(n_workers, 3)
    next(events)
    next(events)
    assert len(job.taken()) > 3
    assert len(list(events)) == N_TILES - 3


def test_a_job_with_staged_tiles_needs_no_trial(image: Path, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    job = Job.create(image, Counting(log), tmp_path / "o.ome.zarr", **OPTIONS)
    events = job.stage()
    next(events)
    events.close()
    again = Job(job.files, job.spec, job.source, job.model.model_copy(update={"function": Refusing(log)}))
    list(again.stage())
    assert len(again.failed()) == N_TILES - len(again.staged())


def test_three_tiles_or_fewer_are_all_tried(image: Path, tmp_path: Path) -> None:
    model = Refusing(tmp_path / "calls")
    job = Job.create(image, model, tmp_path / "o.ome.zarr", tile_shape=(8, 30, 26), halo=3)
    assert len(list(job.stage())) == len(job.failed()) == 3


def test_tiles_that_kill_every_worker_end_the_run(image: Path, tmp_path: Path) -> None:
    """Too little memory for any tile: without a trial, each of the tiles would take two workers with it."""

    def deadly(pixels: np.ndarray) -> np.ndarray:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
        return pixels

    client, cluster = make_local_cluster(n_workers=2)
    with cluster, client:
        job = Job.create(image, deadly, tmp_path / "o.ome.zarr", **OPTIONS)
        with pytest.raises(TrialError, match="WorkerDiedError"):
            list(job.stage(client))
        assert len(job.failed()) == 3


# -------------------------------------------------------------------------------------------------------------- queue
def test_the_queue_is_an_ordinary_one_once_a_tile_succeeded() -> None:
    waiting = TrialQueue(range(20), proven=False)
    assert [waiting.take(worker) for worker in "aabcd"] == [0, None, 10, 19, None]
    waiting.add([10])
    assert [waiting.take(worker) for worker in "acdb"] == [None, None, 18, None]
    waiting.look(None, GRID)
    assert waiting.take("e") is None
    waiting.look(TileFailure(0, "E", "m"), GRID)
    assert waiting.take("a") is None, "three places are tried, not three at a time"
    waiting.look(TileRecord(18, 1), GRID)
    rest = []
    while (item := waiting.take("ab"[len(rest) % 2])) is not None:
        rest.append(item)
    assert sorted([*rest, 0, 18, 19]) == list(range(20))


# -------------------------------------------------------------------------------------------------- before any tile
def test_tiles_larger_than_memory_are_refused_with_the_numbers(client, tmp_path: Path) -> None:
    """Two gigabytes are what the workers have; the image is one that is not there: zeros."""
    path = tmp_path / "large.zarr"
    zarr.create_array(str(path), shape=(1200, 1024, 1024), chunks=(64, 64, 64), dtype="u2")
    model = Counting(tmp_path / "calls")
    job = Job.create(path, model, tmp_path / "o.ome.zarr", tile_shape=(600, 600, 600), halo=20)
    message = r"a tile of 600 x 600 x 600 voxels with its halo of 20 x 20 x 20 needs at least 2\.4 GB, "
    message += r"3\.8 GB with those that are read and written meanwhile, and a process has 2\.1 GB"
    with pytest.raises(JobError, match=message + r"\. Use smaller tiles \(with their halo under 511 voxels a side"):
        list(job.stage(client))
    assert model.calls == 0


SCHEDULER = """
import sys, distributed
distributed.__version__ = "2020.1.0"
from dask.__main__ import main
sys.argv = ["dask", "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", sys.argv[1]]
main()
"""


@pytest.fixture
def old_scheduler(tmp_path: Path) -> Iterator[Any]:
    """A client of a scheduler that says it is of 2020, with one worker."""
    file = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    scheduler = subprocess.Popen([sys.executable, "-c", SCHEDULER, str(file)], **quiet)
    worker = [
        sys.executable,
        "-m",
        "dask",
        "worker",
        "--nthreads",
        "1",
        "--no-dashboard",
        "--scheduler-file",
        str(file),
    ]
    nanny = subprocess.Popen(worker, **quiet)
    until = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.1)
    import json

    client = connect(json.loads(file.read_text())["address"], n_workers=1)
    yield client
    client.close()
    for process in (nanny, scheduler):
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()


def test_a_scheduler_of_another_version_is_refused(old_scheduler: Any, image: Path, tmp_path: Path) -> None:
    model = Counting(tmp_path / "calls")
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    message = r"the scheduler tcp://\S+ has distributed 2020\.1\.0, this process has \S+\. Install distributed"
    with pytest.raises(JobError, match=message):
        list(job.stage(old_scheduler))
    assert model.calls == 0


def test_workers_tell_their_memory(client, image: Path, tmp_path: Path) -> None:
    job = Job.create(image, "threshold", tmp_path / "o.ome.zarr", **OPTIONS)
    assert preflight.check_workers(client, job.folder, job.model) == 2 * 2**30
    assert (preflight.check_workers(None, job.folder, job.model) or 0) > 2**28
