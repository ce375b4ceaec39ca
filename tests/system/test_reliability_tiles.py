"""Bad tiles: models that raise, hang, return nonsense or take all memory cost their tile, and are made good."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import HALO, N_TILES, OPTIONS, SHAPE, TILE, chunks_of, components

from napari_blockbuster import Job, TileFailed, TileGrid, make_local_cluster, segment
from napari_blockbuster.output.result import job_folder

# The cluster that these tests harm is started once.
pytestmark = pytest.mark.xdist_group("reliability_tiles")
BAD = {0, 13}
"""Tiles whose model misbehaves, told by the shape of their pixels and their content."""


@pytest.fixture(scope="module")
def workers() -> Iterator[Any]:
    """A cluster of two processes that these tests may harm: its nannies bring them back."""
    client, cluster = make_local_cluster(n_workers=2, memory_limit="700 MiB")
    yield client
    client.close()
    cluster.close()


class Misbehaving:
    """Does something else on a few tiles, until it is mended; notes the process of each call."""

    def __init__(self, folder: Path, what: Callable[[np.ndarray], Any], bad: dict[bytes, int]) -> None:
        self.folder, self.what, self.bad = folder, what, bad
        (folder / "calls").mkdir(exist_ok=True)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        import os
        import uuid

        tile = self.bad.get(pixels.tobytes(), -1)
        (self.folder / "calls" / f"{tile}-{os.getpid()}-{uuid.uuid4().hex}").touch()
        if tile >= 0 and not (self.folder / "mended").exists():
            return self.what(pixels)
        from scipy import ndimage

        return ndimage.label(pixels > 100)[0]

    def calls(self) -> Counter[int]:
        """Calls of each bad tile; of all others together under -1."""
        return Counter(int(p.name.rpartition("-")[0].rpartition("-")[0]) for p in (self.folder / "calls").iterdir())

    def processes(self, tile: int) -> set[str]:
        """Processes in which a tile was tried."""
        names = [p.name.rsplit("-", 2) for p in (self.folder / "calls").iterdir()]
        return {pid for index, pid, _ in names if int(index) == tile}

    def mend(self) -> None:
        (self.folder / "mended").touch()


def pixels_of(image: Path, tiles: set[int]) -> dict[bytes, int]:
    """Tiles by what the model sees of them."""
    import zarr

    grid, pixels = TileGrid(SHAPE, TILE, HALO), zarr.open_array(str(image), mode="r")
    return {pixels[grid[i].read.slices].tobytes(): i for i in tiles}


def run_and_mend(model: Misbehaving, image: Path, client: Any, expected: dict[str, bytes], **options: Any) -> Job:
    """Run with bad tiles, look at what the result says, mend the model, and complete the result in place."""
    out = model.folder / "o.ome.zarr"
    bad = set(model.bad.values())
    result = segment(
        image, model, out, client=client, merge="touch", progress=False, keep_stage=True, **OPTIONS, **options
    )
    assert set(result.failed_tiles) == set(result.missing_tiles) == bad
    assert {int(i) for i in result.provenance["tiles"]["failed"]} == bad
    failed = Job.open(job_folder(out), model=model)
    for index in bad:
        assert not result.labels[failed.grid[index].core.slices].any().compute(), "a failed tile holds background"
    first = model.calls()
    assert first[-1] == N_TILES - len(bad), "tiles that are well run once"
    model.mend()
    again = Job.open(job_folder(out), model=model)
    assert len(list(again.stage(client))) == len(bad)
    again.write(again.merge("touch"), overwrite=again.wrote_output(), keep_stage=True)
    assert again.failed() == {}
    assert model.calls()[-1] == first[-1], "no tile that was well ran again"
    assert chunks_of(out) == expected
    return failed


# -------------------------------------------------------------------------------------------------------------- raising
def no_photons(pixels: np.ndarray) -> np.ndarray:
    raise ZeroDivisionError("no photons")


@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_a_model_that_raises_is_tried_twice(where: str, workers, image, expected, tmp_path: Path) -> None:
    model = Misbehaving(tmp_path, no_photons, pixels_of(image, BAD))
    failed = run_and_mend(model, image, workers if where == "cluster" else None, expected)
    assert model.calls()[13] == 2 + 1
    assert failed.store.indices("failed") == set()


def test_a_model_that_raises_once_loses_no_tile(workers, image, expected, tmp_path: Path) -> None:
    def once(pixels: np.ndarray) -> np.ndarray:
        (tmp_path / "mended").touch()
        raise OSError("the network hiccuped")

    for number, client in enumerate((None, workers)):
        (tmp_path / str(number)).mkdir()
        model = Misbehaving(tmp_path / str(number), once, pixels_of(image, {13}))
        model.folder = tmp_path
        job = Job.create(image, model, tmp_path / f"{number}.ome.zarr", **OPTIONS)
        (tmp_path / "calls").mkdir(exist_ok=True)
        events = list(job.stage(client))
        assert not [e for e in events if isinstance(e, TileFailed)]
        assert len(events) == N_TILES
        assert chunks_of(job.write(job.merge("touch")).path) == expected
        (tmp_path / "mended").unlink()


@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_nonsense_is_not_asked_for_twice(where: str, workers, image, expected, tmp_path: Path) -> None:
    def halves(pixels: np.ndarray) -> np.ndarray:
        return pixels[::2]

    model = Misbehaving(tmp_path, halves, pixels_of(image, {13}))
    run_and_mend(model, image, workers if where == "cluster" else None, expected)
    assert model.calls()[13] == 1 + 1


def test_a_failure_keeps_its_traceback(image: Path, tmp_path: Path) -> None:
    model = Misbehaving(tmp_path, no_photons, pixels_of(image, {13}))
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    list(job.stage())
    failure = Job.open(job.folder).failed()[13]
    assert (failure.error, failure.message) == ("ZeroDivisionError", "no photons")
    assert "in no_photons" in failure.traceback
    assert failure.pid == os.getpid()


# -------------------------------------------------------------------------------------------------------------- hanging
def test_a_hanging_tile_is_ended_and_told_where_it_was(workers, image, expected, tmp_path: Path) -> None:
    def waits_for_ever(pixels: np.ndarray) -> np.ndarray:
        import time

        time.sleep(1000)
        return pixels

    model = Misbehaving(tmp_path, waits_for_ever, pixels_of(image, {13}))
    began = time.monotonic()
    failed = run_and_mend(model, image, workers, expected, tile_timeout=6)
    assert time.monotonic() - began < 90
    assert model.calls()[13] == 2 + 1
    assert not failed.failed()


def test_a_hanging_tile_that_holds_the_gil_is_ended_too(workers, image, tmp_path: Path) -> None:
    def deaf(pixels: np.ndarray) -> np.ndarray:
        import ctypes

        ctypes.PyDLL(None).sleep(1000)
        return pixels

    model = Misbehaving(tmp_path, deaf, pixels_of(image, {26}))
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    events = list(job.stage(workers, tile_timeout=6))
    assert len(events) == N_TILES
    failure = job.failed()[26]
    assert failure.error == "TileTimeoutError"
    assert "no result within the time limit of 6 s" in failure.message
    assert "--tile-timeout" in failure.message
    assert "in deaf" in failure.traceback


def test_a_slow_start_is_no_hang(workers, image, expected, tmp_path: Path) -> None:
    """Loading a network takes longer than a tile."""
    from napari_blockbuster.models import as_model

    model = as_model(SlowToLoad(components))
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    list(job.stage(workers, tile_timeout=6))
    assert not job.failed()
    assert chunks_of(job.write(job.merge("touch")).path) == expected


class SlowToLoad:
    """A function that takes its time to be unpickled in a worker."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], seconds: float = 0.0) -> None:
        self.function = function
        time.sleep(seconds)

    def __reduce__(self) -> tuple[Any, ...]:
        return SlowToLoad, (self.function, 7.0)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return self.function(pixels)


def test_a_time_limit_without_processes_is_refused(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.ome.zarr"
    with pytest.raises(ValueError, match=r"tile_timeout=5 needs worker processes.*make_local_cluster\(\).*--workers"):
        segment(image, components, out, tile_timeout=5, progress=False, **OPTIONS)
    assert not job_folder(out).exists()
    with pytest.raises(ValueError, match=r"tile_timeout is -1 s\. Give a number of seconds above 0"):
        segment(image, components, out, tile_timeout=-1, progress=False, **OPTIONS)


# --------------------------------------------------------------------------------------------------------------- memory
class OutOfMemoryError(RuntimeError):
    """What ``torch.cuda.OutOfMemoryError`` is: it is told by its name, so that torch need not be imported to ask."""


def out_of_gpu_memory(pixels: np.ndarray) -> np.ndarray:
    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_a_full_gpu_is_tried_three_times_on_more_than_one_worker(
    where: str, workers, image, expected, tmp_path: Path
) -> None:
    model = Misbehaving(tmp_path, out_of_gpu_memory, pixels_of(image, {13}))
    run_and_mend(model, image, workers if where == "cluster" else None, expected)
    assert model.calls()[13] == 3 + 1
    if where == "cluster":
        assert len(model.processes(13)) >= 2


def test_a_gpu_that_is_full_on_one_worker_costs_nothing(workers, image, expected, tmp_path: Path) -> None:
    """Another program sits on one of the GPUs."""
    crowded = next(iter(workers.run(os.getpid).values()))

    def model(pixels: np.ndarray) -> np.ndarray:
        import os

        if os.getpid() == crowded:
            raise OutOfMemoryError("CUDA out of memory")
        return components(pixels)

    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    events = list(job.stage(workers))
    assert len(events) == N_TILES
    assert not job.failed()
    assert chunks_of(job.write(job.merge("touch")).path) == expected


def test_a_tile_that_takes_all_memory_costs_itself_alone(workers, image, expected, tmp_path: Path) -> None:
    def greedy(pixels: np.ndarray) -> np.ndarray:
        import time

        hoard = []
        for _ in range(100):
            hoard.append(np.ones(2**24))
            time.sleep(0.05)
        return pixels * len(hoard)

    model = Misbehaving(tmp_path, greedy, pixels_of(image, {13}))
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    events = list(job.stage(workers))
    assert len(events) == N_TILES
    (failure,) = job.failed().values()
    assert failure.index == 13
    assert failure.error == "WorkerDiedError"
    assert "memory limit (give workers more memory, or make tiles smaller)" in failure.message
    assert 2 <= model.calls()[13] <= 5
    model.mend()
    assert len(list(job.stage(workers))) == 1
    assert chunks_of(job.write(job.merge("touch")).path) == expected


def test_a_deadly_tile_costs_itself_alone(workers, image, expected, tmp_path: Path) -> None:
    def crashes(pixels: np.ndarray) -> np.ndarray:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)
        return pixels

    model = Misbehaving(tmp_path, crashes, pixels_of(image, {0}))
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    list(job.stage(workers))
    assert {i: f.error for i, f in job.failed().items()} == {0: "WorkerDiedError"}
    model.mend()
    list(job.stage(workers))
    assert chunks_of(job.write(job.merge("touch")).path) == expected
