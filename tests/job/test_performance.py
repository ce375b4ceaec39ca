"""How well a run uses the model: measured in the process that runs it, and told with the advice that follows."""

from __future__ import annotations

import time
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from napari_blockbuster import Job, TileStaged
from napari_blockbuster.cli.info.jobs import describe_job
from napari_blockbuster.execution.turns import ModelUse
from napari_blockbuster.job.progress.performance import Performance
from napari_blockbuster.job.steps.completion import Finish, Watch, finish
from napari_blockbuster.stage.records.records import TileRecord

READ = 0.2
"""Seconds for a chunk of the slow image."""


def slow_chunk(block: np.ndarray) -> np.ndarray:
    time.sleep(READ)
    return block


def quick(pixels: np.ndarray) -> np.ndarray:
    return (pixels > 100).astype(np.int32)


def test_a_wait_is_put_down_to_what_the_model_waits_for() -> None:
    use = ModelUse()
    with use.turn(0.0, time.perf_counter()) as first:
        time.sleep(0.02)
    assert first.seconds >= 0.02
    with use.turn(0.0, time.perf_counter()) as early:
        pass
    assert {first.read_wait, first.write_wait, early.write_wait, early.other_wait} == {0}
    began = time.perf_counter()
    time.sleep(0.03)
    ended = time.perf_counter()
    with use.turn(began, ended) as second:
        pass
    assert second.read_wait == pytest.approx(ended - began)
    with use.writing():
        time.sleep(0.03)
    with use.turn(began, ended) as third:
        pass
    assert third.read_wait == 0
    assert third.write_wait >= 0.03 > third.other_wait


@pytest.fixture
def slow_image() -> da.Array:
    pixels = np.zeros((48, 48), np.uint8)
    pixels[10:20, 10:20] = 200
    return da.from_array(pixels, chunks=16).map_blocks(slow_chunk, dtype=np.uint8)


def test_a_run_that_waits_for_its_image_says_so(slow_image: da.Array, tmp_path: Path) -> None:
    job = Job.create(slow_image, quick, tmp_path / "o.ome.zarr", tile_shape=16, halo=0)
    lines = {job.performance.line() for event in job.stage() if isinstance(event, TileStaged)}
    assert any("for reading" in line for line in lines)
    performance = job.performance
    assert performance.n_tiles == 9
    assert performance.busy < 0.5
    assert performance.advice().startswith("The model waits for reading: convert the image")
    assert [name for name, _ in performance.rows()] == ["model", "advice"]
    # The same from the disk, and at the end of the run.
    assert dict(describe_job(job.folder))["advice"] == performance.advice()
    outcome = finish(job, Finish(), None, lambda _: lambda *_: None, Watch())
    assert dict(outcome.rows())["model"] == performance.line()


def test_a_busy_model_needs_no_advice() -> None:
    record = TileRecord(0, 1, turn_seconds=1.0, read_wait=0.05, network_tiles=40, gpu_busy=0.9)
    performance = Performance.of([record] * 10)
    assert (
        performance.line()
        == "busy 95 % of the time, GPU busy 90 %, 40 network tiles/s per worker, waits 50 ms for reading per tile"
    )
    assert performance.advice() == ""
    assert Performance.of([TileRecord(0, 1)]).line() == ""
