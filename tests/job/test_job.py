"""The whole way on real files: here and on a cluster, bit for bit; resumed, repeated, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr
from helpers import assert_same_objects
from scipy import ndimage

from napari_blockbuster import Job, TileFailed, TileStaged, segment
from napari_blockbuster.job.folder.lock import JobLockedError
from napari_blockbuster.machine.errors import JobError, JobMismatchError
from napari_blockbuster.output.result import job_folder
from napari_blockbuster.stage.trial import TrialError

THRESHOLD = 1200


def components(pixels: np.ndarray) -> np.ndarray:
    """Connected components above a threshold: what tiles find can be checked against the whole."""
    from scipy import ndimage

    return ndimage.label(pixels > 1200)[0]


@pytest.fixture(scope="module")
def image_path(blobs: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "blobs.zarr"
    zarr.create_array(str(path), data=blobs, chunks=(16, 32, 32))
    return path


@pytest.fixture(scope="module")
def truth(blobs: np.ndarray) -> np.ndarray:
    return ndimage.label(blobs > THRESHOLD)[0]


OPTIONS: dict = {"tile_shape": (20, 40, 30), "halo": 5, "merge": "touch", "progress": False}


def read(path: Path, level: int = 0) -> np.ndarray:
    return zarr.open_group(str(path), mode="r")[str(level)][:]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --------------------------------------------------------------------------------------------------- the whole way
def test_tiles_give_what_the_whole_image_gives(image_path: Path, truth: np.ndarray, tmp_path: Path) -> None:
    result = segment(image_path, components, tmp_path / "out.ome.zarr", **OPTIONS)
    assert result.n_objects == truth.max()
    labels = result.labels
    assert isinstance(labels, da.Array)
    assert_same_objects(labels.compute(), truth)
    assert set(np.unique(labels.compute())) == set(range(result.n_objects + 1))
    assert result.failed_tiles == {}
    assert result.missing_tiles == []
    assert result.provenance["merge"]["rule"] == "touch"
    assert result.provenance["tiles"]["count"] == 3 * 3 * 3
    attributes = dict(zarr.open_group(str(result.path), mode="r").attrs)
    assert attributes["napari-blockbuster"]["merge"]["objects"] == result.n_objects
    assert not list(job_folder(result.path).glob("stage*"))


def test_a_cluster_gives_the_same_bytes_as_one_thread(client, image_path: Path, tmp_path: Path) -> None:
    here = segment(image_path, components, tmp_path / "here" / "out.ome.zarr", **OPTIONS)
    there = segment(image_path, components, tmp_path / "there" / "out.ome.zarr", client=client, **OPTIONS)
    for level in (0, 1):
        if str(level) not in zarr.open_group(str(here.path), mode="r"):
            break
        np.testing.assert_array_equal(read(here.path, level), read(there.path, level))
    chunks = [{k: v for k, v in files(r.path).items() if "/c/" in k} for r in (here, there)]
    assert chunks[0] == chunks[1]
    np.testing.assert_array_equal(here.seams, there.seams)


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
def test_arrays_in_memory_reach_workers_tile_by_tile(
    kind: str, client, blobs: np.ndarray, image_path: Path, truth: np.ndarray, tmp_path: Path
) -> None:
    image = {
        "numpy": lambda: blobs,
        "dask": lambda: da.from_array(blobs, chunks=(16, 32, 32)) + 0,
        "zarr": lambda: zarr.open_array(str(image_path), mode="r"),
    }[kind]()
    result = segment(image, components, tmp_path / "out.ome.zarr", client=client, **OPTIONS)
    assert_same_objects(result.labels.compute(), truth)


def test_a_lambda_with_a_closure_reaches_the_workers(client, image_path: Path, truth, tmp_path: Path) -> None:
    threshold = THRESHOLD
    result = segment(
        image_path, lambda x: ndimage.label(x > threshold)[0], tmp_path / "o.ome.zarr", client=client, **OPTIONS
    )
    assert result.n_objects == truth.max()


def test_a_function_from_a_script_beside_the_data_reaches_the_workers(
    client, image_path: Path, truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_own_methods.py").write_text(
        "from scipy import ndimage\nT = 1200\ndef find(x):\n    return ndimage.label(x > T)[0]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from my_own_methods import find

    result = segment(image_path, find, tmp_path / "o.ome.zarr", client=client, **OPTIONS)
    assert result.n_objects == truth.max()


def test_time_points_are_segmented_apart(blobs: np.ndarray, tmp_path: Path) -> None:
    movie = np.stack([blobs[0], blobs[20], blobs[40]])
    result = segment(
        movie,
        components,
        tmp_path / "o.ome.zarr",
        axes="tyx",
        tile_shape=(40, 30),
        halo=4,
        merge="touch",
        progress=False,
    )
    labels = result.labels.compute()
    assert labels.shape == movie.shape
    seen: set[int] = set()
    for plane, frame in zip(labels, movie, strict=True):
        assert_same_objects(plane, components(frame))
        ids = set(np.unique(plane)) - {0}
        assert not ids & seen
        seen |= ids


def test_the_default_model_and_tile_need_no_choice(image_path: Path, tmp_path: Path) -> None:
    result = segment(image_path, output=tmp_path / "o.ome.zarr", progress=False)
    assert result.n_objects > 10


# ------------------------------------------------------------------------------------------- once, and what is kept
class Counting:
    """Writes a line for every call: counts on disk hold across processes."""

    def __init__(self, log: Path, then: Callable[[np.ndarray], None] | None = None) -> None:
        self.log, self.then = log, then

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()}\n")
        if self.then is not None:
            self.then(pixels)
        return components(pixels)

    @property
    def calls(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


def test_the_model_runs_once_per_tile_on_a_cluster(client, image_path: Path, tmp_path: Path) -> None:
    model = Counting(tmp_path / "log")
    result = segment(image_path, model, tmp_path / "o.ome.zarr", client=client, keep_stage=True, **OPTIONS)
    assert model.calls == 27
    result.labels.sum().compute()
    job = Job.open(job_folder(result.path), model=model)
    for rule in ("touch", "face", "none"):
        job.merge(rule).labels.sum().compute()
    job.write(job.merge("none"), client, overwrite=True)
    assert model.calls == 27


def test_a_stopped_run_goes_on_where_it_was(image_path: Path, truth, tmp_path: Path) -> None:
    model = Counting(tmp_path / "log")
    options = {k: OPTIONS[k] for k in ("tile_shape", "halo")}
    job = Job.create(image_path, model, tmp_path / "o.ome.zarr", **options)
    events = job.stage()
    for _ in range(7):
        assert isinstance(next(events), TileStaged)
    events.close()
    kept = len(job.staged())
    assert 7 <= kept <= 9
    merged = job.merge("touch")
    assert merged.n_objects > 0
    assert merged.labels.shape == truth.shape
    again = Job.create(image_path, model, tmp_path / "o.ome.zarr", **options)
    list(again.stage())
    assert model.calls == 27
    result = again.write(again.merge("touch"))
    assert_same_objects(result.labels.compute(), truth)


def test_cancel_acts_within_a_tile(client, image_path: Path, tmp_path: Path) -> None:
    model = Counting(tmp_path / "log", lambda x: time.sleep(0.2))
    job = Job.create(image_path, model, tmp_path / "o.ome.zarr", tile_shape=(20, 40, 30), halo=5)
    landed = 0
    for _ in job.stage(client, heartbeat=0.05):
        landed += 1
        job.cancel()
    assert landed <= 2
    time.sleep(0.6)
    assert model.calls <= 6


def test_a_killed_driver_loses_no_finished_tile(image_path: Path, truth, tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, time
            from scipy import ndimage
            from napari_blockbuster import segment
            def find(x):
                open({str(tmp_path / "log")!r}, "a").write("x\\n")
                time.sleep(0.05)
                return ndimage.label(x > {THRESHOLD})[0]
            r = segment({str(image_path)!r}, find, {str(tmp_path / "o.ome.zarr")!r}, tile_shape=(20, 40, 30), halo=5,
                        merge="touch", progress=False)
            print(r.n_objects)
            """
        )
    )
    process = subprocess.Popen([sys.executable, script])
    folder = job_folder(tmp_path / "o.ome.zarr")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(folder.glob("stage*/tiles/*/*.tile"))) < 5:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(list(folder.glob("stage*/tiles/*/*.tile")))
    assert 5 <= kept < 27
    calls = len((tmp_path / "log").read_text().split())
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == truth.max()
    assert len((tmp_path / "log").read_text().split()) == calls + 27 - kept


def test_a_killed_worker_costs_only_its_unfinished_tiles(image_path: Path, truth, tmp_path: Path) -> None:
    from napari_blockbuster import make_local_cluster

    def once_deadly(pixels: np.ndarray) -> None:
        if not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    model = Counting(tmp_path / "log", once_deadly)
    client, cluster = make_local_cluster(n_workers=2)
    with cluster, client:
        result = segment(image_path, model, tmp_path / "o.ome.zarr", client=client, **OPTIONS)
    assert result.failed_tiles == {}
    assert_same_objects(result.labels.compute(), truth)
    assert 28 <= model.calls <= 30


# ---------------------------------------------------------------------------------------------------- bad tiles
def test_a_bad_tile_is_a_record_and_can_be_retried(client, image_path: Path, truth, tmp_path: Path) -> None:
    mend = tmp_path / "mended"

    def model(pixels: np.ndarray) -> np.ndarray:
        if pixels.shape[0] < 20 and not mend.exists():
            raise ZeroDivisionError("no photons")
        return components(pixels)

    job = Job.create(image_path, model, tmp_path / "o.ome.zarr", tile_shape=(20, 40, 30), halo=5)
    events = list(job.stage(client))
    failures = [e for e in events if isinstance(e, TileFailed)]
    assert len(failures) == 9
    assert len(events) == 27
    assert failures[0].failure.error == "ZeroDivisionError"
    assert "no photons" in failures[0].failure.traceback
    result = job.write(job.merge("touch"), client)
    assert sorted(result.failed_tiles) == result.missing_tiles == sorted(f.tile.index for f in failures)
    assert len(result.provenance["tiles"]["failed"]) == 9
    assert not result.labels[40:].any().compute()
    mend.touch()
    again = Job.open(tmp_path / "o.ome.zarr", model=model)
    assert len(list(again.stage(client))) == 9
    assert again.failed() == {}
    result = again.write(again.merge("touch"), overwrite=True)
    assert_same_objects(result.labels.compute(), truth)


def test_wrong_labels_name_the_tile_and_the_function(image_path: Path, tmp_path: Path) -> None:
    def halves(pixels: np.ndarray) -> np.ndarray:
        return pixels[::2]

    with pytest.raises(TrialError) as error:
        segment(image_path, halves, tmp_path / "o.ome.zarr", tile_shape=64, halo=0, progress=False)
    message = Job.open(tmp_path / "o.ome.zarr", model=halves).failed()[0].message
    assert "returned an array of shape (24, " in str(error.value)
    assert "tile 0 at [0:48, 0:64, 0:64]" in message
    assert "halves" in message
    assert "(24, 64, 64)" in message
    assert "(48, 64, 64)" in message


# ------------------------------------------------------------------------------------------------------- refusals
def test_nothing_is_overwritten_unasked(image_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.ome.zarr"
    segment(image_path, components, out, **OPTIONS)
    before = files(out)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        segment(image_path, components, out, **OPTIONS)
    assert files(out) == before
    assert segment(image_path, components, out, overwrite=True, **OPTIONS).n_objects


def test_an_output_that_is_the_input_is_refused_even_with_overwrite(image_path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(image_path)
    before = files(image_path)
    for out in (image_path, image_path / "labels", image_path.parent, link):
        with pytest.raises(ValueError, match="the image itself"):
            segment(image_path, components, out, overwrite=True, **OPTIONS)
    assert files(image_path) == before


def test_another_run_in_the_same_job_folder_is_refused_with_what_differs(image_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.ome.zarr"
    job = Job.create(image_path, components, out, tile_shape=(20, 40, 30), halo=5)
    next(events := job.stage())
    events.close()
    with pytest.raises(JobMismatchError, match=r"halo.*5.*6") as error:
        Job.create(image_path, components, out, tile_shape=(20, 40, 30), halo=6)
    assert "overwrite=True" in str(error.value)
    with pytest.raises(JobMismatchError, match="model"):
        Job.create(image_path, lambda x: x > 0, out, tile_shape=(20, 40, 30), halo=5)
    assert job.staged()
    fresh = Job.create(image_path, components, out, tile_shape=(20, 40, 30), halo=6, overwrite=True)
    assert not fresh.staged()


def test_a_changed_image_is_another_run(blobs: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "im.zarr"
    array = zarr.create_array(str(path), data=blobs, chunks=(16, 32, 32))
    Job.create(path, components, tmp_path / "o.ome.zarr", tile_shape=32, halo=5)
    array[:16, :32, :32] = 0
    with pytest.raises(JobMismatchError, match="image"):
        Job.create(path, components, tmp_path / "o.ome.zarr", tile_shape=32, halo=5)


def test_two_drivers_on_one_job(image_path: Path, tmp_path: Path) -> None:
    job = Job.create(image_path, components, tmp_path / "o.ome.zarr", tile_shape=(20, 40, 30), halo=5)
    events = job.stage()
    next(events)
    other = Job.open(job.folder, model=components)
    with pytest.raises(JobLockedError, match=f"process {os.getpid()}"):
        next(other.stage())
    events.close()
    next(other.stage())


def test_a_lock_of_a_dead_process_is_taken_over(image_path: Path, tmp_path: Path) -> None:
    import socket

    job = Job.create(image_path, components, tmp_path / "o.ome.zarr", tile_shape=(20, 40, 30), halo=5)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock = {"host": socket.gethostname(), "pid": dead.pid, "since": time.time(), "doing": "stage"}
    (job.folder / "lock.json").write_text(json.dumps(lock))
    assert len(list(job.stage())) == 27
    assert not (job.folder / "lock.json").exists()


def test_opening_what_is_no_job(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is not a job folder"):
        Job.open(tmp_path)
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(JobError, match="edited or damaged"):
        Job.open(tmp_path)


def test_a_job_without_its_image_or_function_says_what_to_pass(blobs: np.ndarray, tmp_path: Path) -> None:
    job = Job.create(blobs, components, tmp_path / "o.ome.zarr", tile_shape=32, halo=4)
    list(job.stage())
    alone = Job.open(job.folder)
    with pytest.raises(JobError, match=r"Job.open\(folder, image=...\)"):
        next(alone.stage())
    assert alone.merge("touch").n_objects == job.merge("touch").n_objects
    assert len(list(Job.open(job.folder, image=blobs, model=components).stage())) == 0
    with pytest.raises(JobMismatchError, match="not the image"):
        Job.open(job.folder, image=blobs + 1, model=components)


def test_no_stage_no_merge(image_path: Path, tmp_path: Path) -> None:
    result = segment(image_path, components, tmp_path / "o.ome.zarr", **OPTIONS)
    with pytest.raises(JobError, match="keep_stage=True"):
        Job.open(job_folder(result.path)).merge()


def test_labels_inside_the_image(blobs: np.ndarray, tmp_path: Path) -> None:
    """``<image>/labels/<name>`` is a proper place: it is registered, and the job folder stays outside."""
    image = tmp_path / "im.ome.zarr"
    group = zarr.open_group(str(image), mode="w")
    group.create_array("0", data=blobs, chunks=(16, 32, 32))
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    scale = [{"type": "scale", "scale": [2.0, 0.5, 0.5]}]
    multiscales = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    result = segment(image, components, image / "labels" / "cells", **OPTIONS)
    labels = zarr.open_group(str(image / "labels"), mode="r")
    assert labels.attrs["ome"]["labels"] == ["cells"]
    transforms = labels["cells"].attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert transforms[0] == scale[0]
    assert result.n_objects
    assert not list((image / "labels").glob("*.job"))


def test_import_is_light() -> None:
    code = (
        "import time; t = time.perf_counter(); import napari_blockbuster, sys; "
        "print(time.perf_counter() - t, [m for m in ('napari', 'torch', 'qtpy', 'PyQt6') if m in sys.modules])"
    )
    seconds, loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split(maxsplit=1)
    assert float(seconds) < 1
    assert loaded.strip() == "[]"


def test_labels_inside_an_image_have_its_version(tmp_path: Path) -> None:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[4:10, 12:20] = 1
    image = tmp_path / "image.ome.zarr"
    group = zarr.open_group(str(image), mode="w", zarr_format=2)
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    group.create_array("0", data=pixels, chunks=(16, 16))
    output = image / "labels" / "cells"
    result = segment(image, lambda tile: ndimage.label(tile)[0], output, tile_shape=16, halo=0, progress=False)
    assert (output / ".zattrs").exists()
    assert result.n_objects == 1
    np.testing.assert_array_equal(zarr.open_group(str(output), mode="r")["0"][:] > 0, pixels > 0)
