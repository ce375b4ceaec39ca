"""Hostile and damaged input: each is answered in one sentence, and none of it is executed or followed."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from jobs import N_TILES, OPTIONS, chunks_of, components, finish, write_image

from napari_blockbuster import Job, segment
from napari_blockbuster.job.folder.lock import JobLockedError, holding
from napari_blockbuster.machine.errors import JobError, JobMismatchError


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "image.zarr")


@pytest.fixture
def job(image: Path, tmp_path: Path) -> Job:
    """A job of a registered model with all its tiles."""
    job = Job.create(image, "threshold", tmp_path / "o.ome.zarr", **OPTIONS)
    list(job.stage())
    return job


def edit(job: Job, change: Callable[[dict[str, Any]], object]) -> None:
    path = job.folder / "job.json"
    settings = json.loads(path.read_text())
    change(settings)
    path.write_text(json.dumps(settings))


# ------------------------------------------------------------------------------------------------------------- job.json
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("grid"), r"cannot be read as a job \(grid: Field required\)\. It was edited or damaged"),
        (lambda s: s.update(run="rm -rf /"), r"cannot be read as a job \(run: Extra inputs are not permitted\)"),
        (lambda s: s.update(format=99), "has format 99, this version reads 1: use the version that made it"),
        (lambda s: s["grid"].update(shape=[-1, 5, 5]), "cannot be read as a job .*edited or damaged"),
        (lambda s: s["grid"].update(halo=[10**9] * 3), "cannot be read as a job .*edited or damaged"),
        (lambda s: s["grid"].update(shape=[10**15] * 3), r"\d+ tiles.*edited or damaged"),
        (lambda s: s["grid"].update(band_depth=-5), "cannot be read as a job .*edited or damaged"),
        (lambda s: s["grid"].update(tile_shape=[8, 12]), "cannot be read as a job .*edited or damaged"),
        (lambda s: s.update(output=""), r"cannot be read as a job \(output: .*edited or damaged"),
        (lambda s: s.update(image={}), "image entry cannot be read: job.json was edited or damaged"),
    ],
)
def test_an_edited_job_is_refused(job: Job, change: Callable[[dict], object], message: str) -> None:
    edit(job, change)
    with pytest.raises(JobError, match=message):
        Job.open(job.folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\x80\x04\x95", b"[]", b"null", b'{"a": 1}', b"\xff\xfe"])
def test_what_is_no_json_is_refused(job: Job, content: bytes) -> None:
    (job.folder / "job.json").write_bytes(content)
    with pytest.raises(JobError, match=r"job\.json cannot be read as a job .*edited or damaged"):
        Job.open(job.folder)


def test_a_grid_that_is_not_that_of_the_tiles_is_found(job: Job) -> None:
    edit(job, lambda s: s["grid"].update(tile_shape=[9, 12, 10]))
    stranger = Job.open(job.folder)
    assert "not the array that job.json asks for" in stranger.check().layout[0]
    with pytest.raises(JobError, match=r"job folder damaged: .*not the array that job\.json asks for"):
        stranger.write(stranger.merge("touch"))


def test_a_model_that_is_not_that_of_the_tiles_is_refused(job: Job, image: Path, tmp_path: Path) -> None:
    edit(job, lambda s: s["model"].update(model="no-such-model"))
    with pytest.raises(JobMismatchError, match=r"model\.model: no-such-model in the job, threshold now"):
        Job.create(image, "threshold", tmp_path / "o.ome.zarr", **OPTIONS)


# ------------------------------------------------------------------------------------------------------ from a stranger
class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_opening_a_strangers_job_runs_nothing(job: Job, tmp_path: Path) -> None:
    """Pickles in every file that could hold one, and a function that is only named: nothing is run by looking at it."""
    fuse = tmp_path / "exploded"
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(fuse)!r}, 'w').close()\ndef find(pixels):\n    return pixels > 0\n")
    pixels = np.empty(1, object)
    pixels[0] = Bomb(fuse)
    np.save(job.store.path("seams", 0), pixels, allow_pickle=True)
    job.store.path("tiles", 0).write_bytes(pickle.dumps(Bomb(fuse)))
    job.store.path("failed", 3).write_bytes(pickle.dumps(Bomb(fuse)))
    (job.folder / "lock.json").write_bytes(pickle.dumps(Bomb(fuse)))
    for sha in ("", "0" * 64):
        settings = {"model": "function", "source": f"{trap}:find", "kind": "file", "sha256": sha, "options": {}}
        edit(job, lambda s, m=settings: s.update(model=m, prepared=m))
        try:
            stranger = Job.open(job.folder)
            stranger.failed()
            assert not stranger.check().sound
            stranger.merge("touch")
        except JobError:
            continue
    settings |= {"source": "trap:find", "kind": "module", "sha256": ""}
    edit(job, lambda s: s.update(model=settings, prepared=settings))
    with pytest.raises(JobError, match=r"function has no digest: job\.json was edited\. The function is not run"):
        Job.open(job.folder)
    assert not fuse.exists()


def test_a_job_from_elsewhere_writes_beside_itself(job: Job, tmp_path: Path) -> None:
    """Its settings name a place of somebody else's machine, or one of the user's own that it has no business with."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    for place in (str(precious / "thesis.tex"), str(tmp_path / "a/../../b"), "../../etc/cron.d/x", "/etc/passwd"):
        edit(job, lambda s, p=place: s.update(output=p))
        opened = Job.open(job.folder)
        assert Path(opened.spec.output) == tmp_path / "o.ome.zarr"
    moved = tmp_path / "inbox"
    moved.mkdir()
    shutil.move(job.folder, moved / "o.ome.zarr.job")
    opened = Job.open(moved / "o.ome.zarr.job")
    assert opened.write(opened.merge("touch"), keep_stage=True).path == moved / "o.ome.zarr"
    assert (precious / "thesis.tex").read_text() == "years of work"


def test_markers_with_names_that_are_no_numbers_are_ignored(job: Job) -> None:
    for name in ("../../x", "1e9", "-1", ".5", "six", "4711"):
        for folder in ("tiles", "tiles/0-999"):
            # In the folder of other tiles, or without the suffix, a number is no marker either.
            (job.store.folder / folder / f"{Path(name).name}.tile").write_text("{}")
    (job.store.folder / "tiles" / "1-2").touch()
    assert job.staged() == set(range(N_TILES))


def test_a_marker_that_was_edited_is_found(job: Job) -> None:
    path = job.store.path("tiles", 4)
    path.write_bytes(path.read_bytes().replace(b'"n_objects": ', b'"n_objects":1'))
    with pytest.raises(JobError, match=r"a staged tile of .* is damaged \(.*the checksum of its head does not fit\)"):
        Job.open(job.folder).merge("touch")


# --------------------------------------------------------------------------------------------------------------- images
def test_a_corrupt_chunk_costs_its_tiles_and_is_named(client, image: Path, tmp_path: Path) -> None:
    expected = chunks_of(finish(Job.create(image, components, tmp_path / "peace.ome.zarr", **OPTIONS)))
    chunk = image / "c" / "0" / "0" / "0"
    content = chunk.read_bytes()
    job = Job.create(image, components, tmp_path / "o.ome.zarr", **OPTIONS)
    chunk.write_bytes(content[: len(content) // 2])
    # In workers: this process has the chunk in its cache.
    list(job.stage(client))
    failed = job.failed()
    assert 0 in failed
    assert len(failed) < N_TILES, "tiles that do not read it are none the worse"
    assert "the pixels at [0:" in failed[0].message
    assert str(image.name) in failed[0].message
    result = job.write(job.merge("touch"))
    assert result.missing_tiles == sorted(failed)
    chunk.write_bytes(content)
    again = Job.open(job.folder, model=components)
    list(again.stage())
    assert chunks_of(again.write(again.merge("touch"), overwrite=True).path) == expected


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"zarr_format": 3, "node_type": "array"}', b"\x00" * 300])
def test_an_image_with_damaged_metadata_is_refused(image: Path, tmp_path: Path, content: bytes) -> None:
    (image / "zarr.json").write_bytes(content)
    with pytest.raises((ValueError, OSError)) as error:
        segment(image, components, tmp_path / "o.ome.zarr", progress=False)
    assert image.name in str(error.value)
    assert not (tmp_path / "o.ome.zarr.job").exists()


def test_an_image_that_changed_is_not_mixed(image: Path, tmp_path: Path) -> None:
    job = Job.create(image, "threshold", tmp_path / "o.ome.zarr", **OPTIONS)
    events = job.stage()
    next(events)
    events.close()
    zarr.open_array(str(image))[:8] = 77
    message = (
        r"made from something else than what is there now:\n  image.*\nRestore what the job was made from to resume it"
    )
    with pytest.raises(JobMismatchError, match=message):
        next(Job.open(job.folder).stage())


# ---------------------------------------------------------------------------------------------------------------- locks
def test_a_lock_names_its_holder(tmp_path: Path) -> None:
    import os
    import socket

    message = rf"process {os.getpid()} on {socket.gethostname()} since 2.* \(stage\)\. Wait"
    with (
        holding(tmp_path / "lock.json", "stage"),
        pytest.raises(JobLockedError, match=message),
        holding(tmp_path / "lock.json", "write"),
    ):
        pass
    assert not (tmp_path / "lock.json").exists()


def test_a_lock_that_a_killed_process_left_empty_is_waited_for_and_taken(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    path.touch()
    with holding(path, "stage"):
        assert path.read_text()


def test_a_lock_of_another_machine_counts_while_it_shows_signs_of_life(tmp_path: Path) -> None:
    import os
    import time

    lock = tmp_path / "lock.json"
    lock.write_text(json.dumps({"host": "node17", "pid": 1, "since": time.time(), "doing": "stage"}))
    message = r"process 1 on node17 .* 5 minutes after its last sign of life"
    with pytest.raises(JobLockedError, match=message), holding(lock, "x"):
        pass
    os.utime(lock, (time.time() - 1000,) * 2)
    with holding(lock, "stage"):
        pass


def test_a_pid_that_belongs_to_another_process_by_now_holds_nothing(tmp_path: Path) -> None:
    import os
    import socket

    lock = tmp_path / "lock.json"
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": 1000.0, "since": 1000.0}))
    with holding(lock, "stage"):
        pass


def test_a_sleeper_whose_lock_was_taken_over_stops(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_blockbuster.job.folder.lock.BEAT", 0.05)
    job.store.unstage(range(6))
    events = job.stage()
    next(events)
    (job.folder / "lock.json").write_text(json.dumps({"host": "node17", "pid": 1, "since": 0, "token": "other"}))
    import time

    time.sleep(0.3)
    with pytest.raises(JobLockedError, match="was taken over by process 1 on node17 while this one was asleep"):
        list(events)
    assert json.loads((job.folder / "lock.json").read_text())["host"] == "node17"
