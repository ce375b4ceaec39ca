"""The five traps of tiled segmentation, each shown not to exist (docs/pitfalls.md tells the stories)."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers import merge_store, stage_all
from scipy import ndimage

from napari_blockbuster import Job, segment
from napari_blockbuster.execution.cluster_run.cluster_run import TILES_PER_WORKER
from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.merge.numbering import merge_labels
from napari_blockbuster.stage.seams.evidence import evidence_dtype
from napari_blockbuster.stage.tables.label_table import LabelTable


# ------------------------------------------------------------------------------------------- 1. the in-process client
def test_an_in_process_client_is_refused_before_anything_runs(tmp_path: Path) -> None:
    from distributed import Client

    calls = []
    with (
        Client(processes=False, n_workers=1, set_as_default=False, dashboard_address=None) as client,
        pytest.raises(RuntimeError, match="in-process worker"),
    ):
        segment(np.zeros((8, 8), np.uint8), calls.append, tmp_path / "out.ome.zarr", client=client)
    assert not calls
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_holds_the_gil_does_not_starve_the_cluster(client, tmp_path: Path) -> None:
    """The trap itself: pure Python keeps the GIL for longer than a heartbeat; in processes nothing is lost by it."""

    def holds_the_gil(pixels: np.ndarray) -> np.ndarray:
        import sys

        sys.setswitchinterval(1000)
        until = time.perf_counter() + 2
        while time.perf_counter() < until:
            pass
        sys.setswitchinterval(0.005)
        return (pixels > 0).astype(np.int32)

    image = np.ones((32, 64), np.uint8)
    result = segment(
        image, holds_the_gil, tmp_path / "o.ome.zarr", tile_shape=32, halo=4, client=client, progress=False
    )
    assert result.n_objects == 1
    assert not result.failed_tiles


# --------------------------------------------------------------------------------------- 2. the model runs once per tile
def test_nothing_after_staging_can_reach_the_model(client, tmp_path: Path) -> None:
    """Merging, looking, writing and computing the result read the stage: the model is counted on disk and then taken away."""
    log = tmp_path / "calls"
    log.mkdir()

    def model(pixels: np.ndarray) -> np.ndarray:
        import uuid

        from scipy import ndimage

        (log / uuid.uuid4().hex).touch()
        return ndimage.label(pixels)[0]

    image = np.random.default_rng(0).random((64, 64)) < 0.4
    job = Job.create(image, model, tmp_path / "o.ome.zarr", tile_shape=16, halo=4)
    list(job.stage(client))
    assert len(list(log.iterdir())) == 16
    job.inputs.model = job.inputs.source = None
    merged = job.merge("touch")
    merged.labels.max().compute()
    result = job.write(merged, client)
    result.labels.max().compute()
    assert len(list(log.iterdir())) == 16
    assert result.n_objects == ndimage.label(image)[1]


# ------------------------------------------------------------------------------------ 3. no O(n²), no pass over voxels
def test_merging_reads_no_voxel(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((40, 40)) < 0.5
    store = stage_all(tmp_path / "s", TileGrid(image.shape, 10, 3), image, lambda x: ndimage.label(x)[0])
    shutil.rmtree(store.folder / "labels")
    assert merge_store(store, rule="touch").n_objects == ndimage.label(image)[1]


def _chain(n: int) -> tuple[np.ndarray, LabelTable]:
    """n tiles in a row, 50 labels each, every label joined with the next tile's: the longest chains there can be."""
    table = np.zeros((n - 1) * 50, evidence_dtype(3))
    table["low"] = np.repeat(np.arange(n - 1), 50)
    table["high"] = table["low"] + 1
    table["low_id"] = table["high_id"] = np.tile(np.arange(1, 51), n - 1)
    table["contact"][:, 0] = 1
    return table, LabelTable.of_counts(np.full(n, 50))


def test_merging_grows_with_the_labels_and_not_with_their_square() -> None:
    seconds = {}
    for n in (500, 8000):
        evidence, labels = _chain(n)
        merge_labels(evidence, labels, rule="touch")
        began = time.perf_counter()
        merged = merge_labels(evidence, labels, rule="touch")
        seconds[n] = time.perf_counter() - began
        assert merged.n_objects == 50
    # 16 times the labels: 16 times the work, where a quadratic pass would take 256 times.
    assert seconds[8000] < 100 * seconds[500]


# ------------------------------------------------------------------------------------- 4. overlap with no invented data
def test_a_model_sees_recorded_voxels_only_and_each_where_it_is(tmp_path: Path) -> None:
    """Each voxel holds its own place. Reflected, padded or shifted data would show as a place seen twice or out of line."""
    shape, halo = (13, 31), 5
    image = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    seen: list[np.ndarray] = []

    def model(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels.copy())
        return pixels + 1

    job = Job.create(image, model, tmp_path / "o.ome.zarr", tile_shape=(6, 9), halo=halo)
    list(job.stage())
    assert len(seen) == len(job.grid)
    for pixels in seen:
        rows, columns = pixels // shape[1], pixels % shape[1]
        np.testing.assert_array_equal(rows, np.broadcast_to(rows[:1, :1] + np.arange(len(rows))[:, None], rows.shape))
        np.testing.assert_array_equal(
            columns, np.broadcast_to(columns[:1, :1] + np.arange(columns.shape[1]), columns.shape)
        )
    # What was trimmed is exactly what was added: every voxel comes back at its own place.
    labels = np.empty(shape, np.uint32)
    for tile in job.grid:
        labels[tile.core.slices] = job.store.read_labels(tile).result()
        ranks = np.argsort(np.argsort(image[tile.core.slices].ravel())).reshape(tile.core.shape)
        np.testing.assert_array_equal(labels[tile.core.slices], ranks + 1)


# ------------------------------------------------------------------------------------------------------- 5. no persist
def test_the_cluster_holds_a_window_of_tiles_and_no_data(client, tmp_path: Path) -> None:
    """Looked at from inside the scheduler while 100 tiles run: few tasks, and results of a few kB."""
    path = tmp_path / "image.zarr"
    image = (np.random.default_rng(0).random((10, 160, 160)) < 0.3).astype(np.uint8)
    zarr.create_array(str(path), data=image, chunks=(10, 16, 16))
    most = {"tasks": 0, "bytes": 0}
    running = threading.Event()
    running.set()

    def look(dask_scheduler=None) -> tuple[int, int]:
        tasks = list(dask_scheduler.tasks.values())
        return len(tasks), sum(max(t.nbytes, 0) for t in tasks)

    def watch() -> None:
        while running.is_set():
            tasks, held = client.run_on_scheduler(look)
            most["tasks"], most["bytes"] = max(most["tasks"], tasks), max(most["bytes"], held)
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = segment(
            path, "threshold", tmp_path / "o.ome.zarr", tile_shape=(10, 16, 16), halo=2, client=client, progress=False
        )
    finally:
        running.clear()
        watcher.join()
    assert result.provenance["tiles"]["count"] == 100
    assert 0 < most["tasks"] <= 2 * (TILES_PER_WORKER * 2) + 2
    assert most["bytes"] < 100_000


def test_a_task_carries_an_index_and_not_a_graph(client, tmp_path: Path) -> None:
    """For an image of 10,000 chunks a tile's task is as small as for one of 4."""
    import cloudpickle
    import dask.array as da

    from napari_blockbuster.images import open_image
    from napari_blockbuster.stage.work import StageWork

    image = da.zeros((100, 100, 400), chunks=(10, 10, 4), dtype=np.uint8) + 1
    job = Job.create(image, lambda x: x, tmp_path / "o.ome.zarr", tile_shape=(20, 20, 20), halo=2)
    work = StageWork.of(job.store, job.model, job.source)
    assert len(cloudpickle.dumps(work)) < 10_000
    payload = cloudpickle.dumps(work.ship(0))
    assert len(payload) < 60_000
    path = tmp_path / "image.zarr"
    zarr.create_array(str(path), shape=(100, 100, 400), chunks=(10, 10, 4), dtype="u1")
    stored = StageWork.of(job.store, job.model, open_image(path))
    assert stored.ship(0) is None
