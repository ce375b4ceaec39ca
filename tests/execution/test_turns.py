"""Turns at the model of a process."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from jobs import OPTIONS

from napari_blockbuster import Job, TileFailed, TileStaged, make_local_cluster
from napari_blockbuster.execution.turns import exclusive, in_turn


class GivenUpError(Exception):
    """The run has ended."""


def nothing() -> None:
    """Do nothing."""


def test_the_next_turn_begins_at_once_and_in_the_thread_of_the_model() -> None:
    """Also while other threads are busy with the interpreter."""
    times: list[tuple[float, float]] = []
    threads: set[int] = set()

    def model() -> None:
        threads.add(threading.get_ident())
        began = time.monotonic()
        time.sleep(0.02)
        times.append((began, time.monotonic()))

    with ThreadPoolExecutor(3) as tasks:
        turns = [tasks.submit(in_turn, nothing, nothing, model) for _ in range(20)]
        while not all(turn.done() for turn in turns):
            sum(range(1000))
    assert len(threads) == 1
    gaps = sorted(after[0] - before[1] for before, after in itertools.pairwise(times))
    assert gaps[0] >= 0, "one at a time"
    # Less than another thread may keep the interpreter. The longest ones are those of a busy machine.
    assert gaps[int(0.8 * len(gaps))] < 0.005


class Warm:
    """Fails unless everything that comes after the model has been imported before."""

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        if "napari_blockbuster.stage.sums.kernels" not in sys.modules:
            raise RuntimeError("the device will wait for numba")
        return (pixels > 100).astype(np.uint8)


def test_a_worker_gets_its_first_tile_once_nothing_has_to_be_imported(image: Path, tmp_path: Path) -> None:
    client, cluster = make_local_cluster(n_workers=1)
    with cluster, client:
        job = Job.create(image, Warm(), tmp_path / "o.ome.zarr", **OPTIONS)
        first = next(event for event in job.stage(client) if isinstance(event, TileStaged | TileFailed))
    assert isinstance(first, TileStaged)


def test_a_turn_that_is_given_up_leaves_the_model_alone() -> None:
    called: list[str] = []

    def ended() -> None:
        raise GivenUpError

    with pytest.raises(GivenUpError):
        in_turn(ended, lambda: called.append("began"), lambda: called.append("model"))
    assert called == []
    assert in_turn(nothing, nothing, lambda: "model") == "model"


def test_a_tile_that_needs_the_model_once_more_does_not_wait_for_all_others() -> None:
    """After it ran out of memory. The thread of the model would otherwise take every turn."""
    done: list[int] = []
    with ThreadPoolExecutor(8) as tasks:
        turns = [tasks.submit(in_turn, nothing, nothing, lambda: (time.sleep(0.05), done.append(1))) for _ in range(8)]
        while not done:
            time.sleep(0.005)
        with exclusive():
            assert len(done) < 4
        assert [turn.exception() for turn in turns] == [None] * 8
