"""Cost of a large job in the GUI thread, with 262,144 tiles."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_blockbuster import Job, TileGrid
from napari_blockbuster.execution.queue import TileQueue
from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.widgets.layers.of_job.live import LiveLabels

MANY = TileGrid((512 * 64, 512 * 64), 64)
"""262,144 tiles."""


def milliseconds(call: Any) -> float:
    """Return the time of the fastest of several calls, because the machine may be busy."""
    times = []
    for _ in range(7):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times) * 1000


def test_tiles_in_view_are_found_in_time() -> None:
    everything = Box((0, 0), MANY.shape)
    assert milliseconds(lambda: MANY.nearest(everything, 4096)) < 50
    found = MANY.nearest(everything, 4096)
    assert len(found) == len(set(found)) == 4096
    places = np.array([MANY.position(i) for i in found]) - 255.5
    distances = (places**2).sum(axis=1)
    assert (np.diff(distances) >= 0).all()
    # A circle around the center: no tile outside the list is nearer.
    assert distances.max() <= 4096 / np.pi * 1.05


def test_nearest_is_a_sorted_part_of_all_tiles_in_a_box() -> None:
    grid = TileGrid((5, 70, 90), (1, 16, 20), separate_axes=1)
    rng = np.random.default_rng(4)
    for _ in range(50):
        start = [int(rng.integers(0, n)) for n in grid.shape]
        stop = [int(rng.integers(a + 1, n + 1)) for a, n in zip(start, grid.shape, strict=True)]
        box = Box(tuple(start), tuple(stop))
        expected = [tile.index for tile in grid if tile.core.intersection(box).size]
        assert grid.tiles_in(box) == expected
        assert sorted(grid.nearest(box, 10**6)) == expected
        assert set(grid.nearest(box, 3)) <= set(expected)
    assert grid.nearest(Box((0, 0, 0), (0, 0, 0)), 5) == []


def test_tiles_that_were_sent_are_told_once() -> None:
    queue = TileQueue(range(len(MANY)))
    for _ in range(len(MANY) - 5):
        queue.take()
    assert milliseconds(lambda: queue.sent(len(MANY) - 10)) < 1
    seen = queue.sent(0)
    assert len(seen) == len(MANY) - 5
    queue.take()
    assert len(queue.sent(len(seen))) == 1


def test_the_map_of_many_tiles_follows_a_run_in_time(
    make_napari_viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qtpy.QtCore import QObject

    from napari_blockbuster.widgets.layers.of_job.job_view import JobView
    from napari_blockbuster.widgets.layers.of_job.tile_map import STATE_NUMBER
    from napari_blockbuster.widgets.layers.placement import unknown_place

    tifffile.imwrite(tmp_path / "large.tif", np.zeros((2048, 2048), np.uint8), tile=(64, 64))
    job = Job.create(tmp_path / "large.tif", "threshold", tmp_path / "o.ome.zarr", tile_shape=(4, 4), halo=(0, 0))
    assert job.n_tiles == 262_144
    viewer = make_napari_viewer()
    place = unknown_place(2)
    owner = QObject()
    view = JobView(viewer, job, LiveLabels(job), place=place, name="labels", parent=owner)
    try:
        # A queue like that of `Job.stage`, nearly empty.
        queue = job._control.queue = TileQueue(range(job.n_tiles))
        for _ in range(job.n_tiles - 100):
            queue.take()
        view.mark_running()
        running = STATE_NUMBER["running"]
        assert (view.tiles.data == running).sum() == job.n_tiles - 100
        view.changes.tiles.clear()
        assert milliseconds(view.mark_running) < 5
        assert milliseconds(view.follow_camera) < 100
        assert view.shows_any({0, 511, job.n_tiles - 1})
        states = dict.fromkeys(range(job.n_tiles), "done")
        assert milliseconds(lambda: view.start(states)) < 300
    finally:
        view.close()


def test_a_job_shows_its_map_before_its_tiles_are_read(
    open_dock: Any, until: Any, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "blobs.tif", pixels, tile=(64, 64))
    job = Job.create(tmp_path / "blobs.tif", "threshold", tmp_path / "o.ome.zarr", tile_shape=(50, 50), halo=(8, 8))
    assert len(list(job.stage())) == job.n_tiles
    reading = threading.Event()
    land = LiveLabels.land

    def slow_disk(self: LiveLabels, *args: Any) -> None:
        assert threading.current_thread() is not threading.main_thread()
        assert reading.wait(60)
        land(self, *args)

    monkeypatch.setattr(LiveLabels, "land", slow_disk)
    _, widget = open_dock()
    widget.open_job(job.folder)
    try:
        until(lambda: widget.control.view is not None and widget.image.source is not None)
        shown = widget.control.view.tiles.data
        assert (shown > 1).all(), "all tiles are known to be staged"
        assert widget.control.progress.done == job.n_tiles
        assert not np.asarray(widget.control.view.live.levels[0]).any()
    finally:
        reading.set()
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    np.testing.assert_array_equal(
        np.asarray(widget.control.view.live.levels[0]) > 0, np.asarray(widget.control.merged.labels) > 0
    )


def test_pairs_are_written_in_a_thread(
    open_dock: Any, until: Any, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_blockbuster.widgets.inspector.lists import pair_saving as inspectors

    tifffile.imwrite(tmp_path / "blobs.tif", pixels, tile=(64, 64))
    job = Job.create(tmp_path / "blobs.tif", "threshold", tmp_path / "o.ome.zarr", tile_shape=(50, 50), halo=(8, 8))
    assert len(list(job.stage())) == job.n_tiles
    _, widget = open_dock()
    widget.open_job(job.folder)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    threads: list[threading.Thread] = []
    write = inspectors.export_csv

    def noting(*args: Any, **options: Any) -> None:
        threads.append(threading.current_thread())
        write(*args, **options)

    monkeypatch.setattr(inspectors, "export_csv", noting)
    inspector = widget.inspect()
    inspector.save_csv(tmp_path / "pairs.csv")
    until(lambda: (tmp_path / "pairs.csv").exists())
    assert threads
    assert threads[0] is not threading.main_thread()
    refused: list[str] = []
    monkeypatch.setattr(inspectors, "show_warning", refused.append)
    inspector.save_csv(tmp_path / "none" / "pairs.csv")
    until(lambda: bool(refused))
    assert "could not be saved" in refused[0]
