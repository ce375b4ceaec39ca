"""The job folder and the output: replaced only when all is checked, and nothing of others is ever replaced."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from forked import command_line
from jobs import N_TILES, OPTIONS, chunks_of, components, write_image

from napari_blockbuster import Job, segment
from napari_blockbuster.job.folder.lock import JobLockedError
from napari_blockbuster.job.steps.publication import NothingStagedError
from napari_blockbuster.job.steps.second_try import SecondTry, tiles_again
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.models import get_model
from napari_blockbuster.output.occupant import Occupant
from napari_blockbuster.output.result import job_folder

OTHER: dict = {"tile_shape": (11, 15, 13), "halo": 3}


def staged_job(image: Path, folder: Path, **options: Any) -> Job:
    """A job of a registered model with all its tiles."""
    made = Job.create(image, get_model("threshold", threshold=100), folder / "o.ome.zarr", **(options or OPTIONS))
    list(made.stage())
    return made


def run(*words: object, code: int = 0) -> str:
    """Run the command line in a process of its own; what it printed."""
    done = command_line(*words)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and folder with its time and content."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted([folder, *folder.rglob("*")])
    }


def theirs(folder: Path) -> Path:
    """A label image of somebody else."""
    group = zarr.create_group(str(folder), attributes={"mine": "hands off"})
    group.create_array("0", data=np.ones((4, 4), np.uint8))
    return folder


# -------------------------------------------------------------------------------------------------------- another run
def test_a_job_is_kept_when_the_run_that_replaces_it_cannot_start(tmp_path: Path) -> None:
    image = write_image(tmp_path / "image.zarr")
    job = staged_job(image, tmp_path)
    SecondTry(job)
    before = contents(job.folder)
    # The model measures its threshold on the whole image, and one chunk of it is damaged by now.
    chunk = next(path for path in sorted(image.rglob("c/**/*")) if path.is_file())
    whole = chunk.read_bytes()
    chunk.write_bytes(b"no chunk")
    with pytest.raises((ValueError, OSError)):
        Job.create(image, "threshold", tmp_path / "o.ome.zarr", overwrite=True, **OTHER)
    words = ["segment", image, "--model", "threshold", "-o", tmp_path / "o.ome.zarr", "--overwrite", "--workers", 0]
    run(*words, "--tile", 11, 15, 13, "--halo", 3, code=2)
    after = contents(job.folder)
    assert after.keys() == before.keys()
    assert all(after[name][1] == before[name][1] for name in before)
    chunk.write_bytes(whole)
    assert len(Job.open(job.folder).staged()) == N_TILES
    run("resume", job.folder, "--workers", 0, "-q")


def test_space_that_the_old_tiles_take_counts_for_the_run_that_replaces_them(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = staged_job(image, tmp_path)
    (job.store.folder / "ballast").write_bytes(bytes(10**6))
    monkeypatch.setattr("shutil.disk_usage", lambda path: (10**12, 10**12 - 10, 10))
    replacement = Job.create(image, "threshold", tmp_path / "o.ome.zarr", overwrite=True, **OTHER)
    assert replacement.staged() == set()
    with pytest.raises(OSError, match="Free some space"):
        Job.create(image, "threshold", tmp_path / "p.ome.zarr", **OTHER)


def test_nothing_of_a_job_survives_in_the_run_that_replaces_it(image: Path, tmp_path: Path) -> None:
    job = staged_job(image, tmp_path)
    second = SecondTry(job)
    list(second.stage([4], get_model("threshold", threshold=150)))
    second.accept([4])
    job.write(job.merge("touch"), keep_stage=True)
    elsewhere = job.with_output(tmp_path / "elsewhere.ome.zarr")
    elsewhere.write(elsewhere.merge("none"), keep_stage=True)
    names = {"again.json", "result.json", "results"}
    assert names < {path.name for path in job.folder.iterdir()}
    assert list(job.folder.glob("again-*"))

    model = get_model("threshold", threshold=100)
    replacement = Job.create(image, model, tmp_path / "o.ome.zarr", overwrite=True, **OTHER)
    assert {path.name for path in replacement.folder.iterdir()} == {"job.json", replacement.store.folder.name}
    assert not replacement.wrote_output(), "the labels there are those of the run before"
    list(replacement.stage())
    assert tiles_again(replacement.folder) == {}
    with pytest.raises(JobError, match="is already the original tile of the run"):
        SecondTry(replacement).go_back([4])
    third = SecondTry(replacement)
    list(third.stage([4], get_model("threshold", threshold=150)))
    third.accept([4])
    third.go_back([4])
    result = replacement.write(replacement.merge("touch"), overwrite=True)
    assert result.provenance["tiles"]["segmented_again"] == {}
    assert not list(replacement.folder.glob("again-*")), "without tiles there is nothing to go back to"


def test_a_second_try_of_an_earlier_grid_is_in_nobodys_way(image: Path, tmp_path: Path) -> None:
    """Folders that an earlier version left: their `again` is that of the run before."""
    old, new = staged_job(image, tmp_path, **OTHER), tmp_path / "new"
    list(SecondTry(old).stage([0], get_model("threshold", threshold=150)))
    job = staged_job(image, new)
    (left,) = old.folder.glob("again-*")
    left.rename(job.folder / left.name.replace(old.spec.life, job.spec.life))
    second = SecondTry(job)
    list(second.stage([4], get_model("threshold", threshold=150)))
    second.accept([4])
    assert second.go_back([4]) == [4]


def test_of_two_processes_that_start_a_run_at_once_one_is_refused(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one starts, and is done with a tile, while this one prepares its model."""
    model, out = get_model("threshold", threshold=100), tmp_path / "o.ome.zarr"
    kind, prepare = type(model), type(model).prepare
    others: list[Job] = []

    def meanwhile(self: Any, source: Any) -> Any:
        monkeypatch.setattr(kind, "prepare", prepare)
        others.append(Job.create(image, get_model("threshold", threshold=100), out, **OPTIONS))
        next(others[0].stage(tiles=[0]))
        return prepare(self, source)

    monkeypatch.setattr(kind, "prepare", meanwhile)
    with pytest.raises(JobLockedError, match="another process has just started this run"):
        Job.create(image, model, out, **OPTIONS)
    assert others[0].staged() == {0}


# --------------------------------------------------------------------------------------------------- whose output it is
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_appears_at_the_output_while_a_job_writes_is_left_alone(
    image: Path, tmp_path: Path, overwrite: bool
) -> None:
    job = staged_job(image, tmp_path)
    merged, target = job.merge("touch"), tmp_path / "o.ome.zarr"
    if overwrite:
        theirs(target)

    def somebody_comes(done: int, total: int) -> None:
        if done == 3:
            with contextlib.suppress(FileNotFoundError):
                target.rename(tmp_path / "away")
            (theirs(target) / "notes.txt").write_text("a year of work")

    with pytest.raises(FileExistsError, match="something else appeared at the output"):
        job.write(merged, overwrite=overwrite, progress=somebody_comes)
    assert (target / "notes.txt").read_text() == "a year of work"
    assert zarr.open_group(str(target), mode="r").attrs["mine"] == "hands off"
    assert not list(tmp_path.glob(".*"))
    assert len(job.staged()) == N_TILES
    assert not job.wrote_output()
    with pytest.raises(FileExistsError, match="Pass overwrite=True"):
        job.write(merged)
    job.write(merged, overwrite=True)
    assert job.is_complete()


def test_overwrite_is_meant_for_what_was_there_when_the_run_began(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "o.ome.zarr"

    def finds(pixels: np.ndarray) -> np.ndarray:
        if not target.exists():
            theirs(target)
        return components(pixels)

    with pytest.raises(FileExistsError, match="something else appeared at the output"):
        segment(image, finds, target, overwrite=True, progress=False, **OPTIONS)
    assert zarr.open_group(str(target), mode="r").attrs["mine"] == "hands off"
    assert len(Job.open(target, model=finds).staged()) == N_TILES


def test_overwrite_on_the_command_line_is_meant_for_what_was_there(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "o.ome.zarr"
    theirs(target)
    (tmp_path / "model.py").write_text(
        f"""
import os
from scipy import ndimage

def find(pixels):
    if not os.path.exists({str(tmp_path / "away")!r}):
        os.rename({str(target)!r}, {str(tmp_path / "away")!r})
        os.mkdir({str(target)!r})
        open(os.path.join({str(target)!r}, "notes.txt"), "w").close()
    return ndimage.label(pixels > 100)[0]
"""
    )
    words = [
        "segment",
        image,
        "--model",
        f"{tmp_path / 'model.py'}:find",
        "-o",
        target,
        "--tile",
        8,
        12,
        10,
        "--halo",
        3,
    ]
    told = run(*words, "--workers", 0, "--overwrite", "-q", code=2)
    assert "something else appeared at the output" in told
    assert os.listdir(target) == ["notes.txt"]
    run("resume", job_folder(target), "--overwrite", "--workers", 0, "-q")
    assert not (target / "notes.txt").exists()
    assert (tmp_path / "away" / "zarr.json").exists()


def test_a_link_to_nowhere_is_somebodys(image: Path, tmp_path: Path) -> None:
    (tmp_path / "o.ome.zarr").symlink_to(tmp_path / "unplugged-disk")
    with pytest.raises(FileExistsError, match=r"the output .* exists"):
        Job.create(image, components, tmp_path / "o.ome.zarr", **OPTIONS)


def test_an_occupant_is_known_again(tmp_path: Path) -> None:
    nothing = Occupant.of(tmp_path / "o")
    assert nothing.is_nothing
    assert nothing == Occupant.of(tmp_path / "o" / "deeper")
    seen = Occupant.of(theirs(tmp_path / "o"))
    assert not seen.is_nothing
    (tmp_path / "o").rename(tmp_path / "p")
    assert Occupant.of(tmp_path / "p") == seen
    (tmp_path / "p" / "zarr.json").write_text("{}")
    assert Occupant.of(tmp_path / "p") != seen


# ------------------------------------------------------------------------------------------------------- several results
def test_one_job_keeps_a_record_of_each_of_its_results(image: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "o.ome.zarr", tmp_path / "other.ome.zarr"
    words = ["--model", "threshold", "-o", out, "--tile", 8, 12, 10, "--halo", 3, "--workers", 0, "-q"]
    run("segment", image, *words, "--merge", "touch", "--keep-stage")
    run("merge", out, "-o", other, "--rule", "none", "-q")
    assert "Nothing to resume: the result is complete" in run("resume", out)
    rows = json.loads(run("info", out, "--json"))
    assert rows["merge"] == "touch, connectivity 1"
    assert str(other) in rows["result other.ome.zarr"]
    assert "none" in rows["result other.ome.zarr"]
    # A second result at the same place is one result, and refused unasked.
    assert "--overwrite" in run("merge", out, "-o", other, "-q", code=2)
    run("merge", out, "-o", other, "--rule", "touch", "--overwrite", "-q")
    assert len(list((tmp_path / "o.ome.zarr.job" / "results").iterdir())) == 1
    assert chunks_of(other) == chunks_of(out)
    # Somebody deleted it: it is not named any more.
    other.rename(tmp_path / "renamed.ome.zarr")
    assert "result other.ome.zarr" not in json.loads(run("info", out, "--json"))
    assert "Nothing to resume" in run("resume", out)


def test_a_job_folder_with_the_single_record_of_earlier_versions_opens(image: Path, tmp_path: Path) -> None:
    job = staged_job(image, tmp_path)
    job.write(job.merge("touch"), keep_stage=True)
    record = job.folder / "result.json"
    known = json.loads(record.read_text())
    del known["output"]
    record.write_text(json.dumps(known))
    opened = Job.open(tmp_path / "o.ome.zarr")
    assert opened.is_complete()
    assert "Nothing to resume" in run("resume", job.folder)
    assert json.loads(run("info", job.folder, "--json"))["merge"] == "touch, connectivity 1"


# ------------------------------------------------------------------------------------------------------- all tiles failed
def test_all_tiles_failed_is_no_result_anywhere(image: Path, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        f"""
import os
from scipy import ndimage

def find(pixels):
    if not os.path.exists({str(tmp_path / "mended")!r}):
        raise RuntimeError("not today")
    return ndimage.label(pixels > 100)[0]
"""
    )
    model, wide = f"{tmp_path / 'model.py'}:find", {"tile_shape": (22, 30, 13), "halo": 3}
    told = r"all 2 tiles failed, so no result was written \(tile 0: RuntimeError: not today\)"
    with pytest.raises(NothingStagedError, match=told):
        segment(image, model, tmp_path / "a.ome.zarr", merge="touch", progress=False, **wide)
    words = ["segment", image, "--model", model, "-o", tmp_path / "b.ome.zarr", "--tile", 22, 30, 13, "--halo", 3]
    said = run(*words, "--workers", 0, "--merge", "touch", "-q", code=2)
    assert "error: all 2 tiles failed, so no result was written (tile 0: RuntimeError: not today)" in said
    for name in "ab":
        assert not (tmp_path / f"{name}.ome.zarr").exists()
        job = Job.open(tmp_path / f"{name}.ome.zarr.job")
        assert set(job.failed()) == {0, 1}
        with pytest.raises(NothingStagedError, match="all 2 tiles failed"):
            job.write(job.merge("touch"))
    (tmp_path / "mended").touch()
    run("resume", tmp_path / "a.ome.zarr.job", "--workers", 0, "--merge", "touch", "-q")
    run("resume", tmp_path / "b.ome.zarr.job", "--workers", 0, "--merge", "touch", "-q")
    assert chunks_of(tmp_path / "a.ome.zarr") == chunks_of(tmp_path / "b.ome.zarr") != {}


def test_nothing_is_written_before_a_tile_is_staged(image: Path, tmp_path: Path) -> None:
    job = Job.create(image, components, tmp_path / "o.ome.zarr", **OPTIONS)
    with pytest.raises(NothingStagedError, match="is staged yet, so no result was written"):
        job.write(job.merge("touch"))
    assert not (tmp_path / "o.ome.zarr").exists()


# --------------------------------------------------------------------------------------------------------------- looking
def test_looking_at_a_job_writes_nothing(image: Path, tmp_path: Path) -> None:
    job = staged_job(image, tmp_path)
    seams = job.merge("touch").seams
    # As a crash between a marker and its evidence leaves it, and one that was cut short by a loss of power.
    job.store.path("seams", 13).unlink()
    damaged = job.store.path("seams", 14)
    damaged.write_bytes(damaged.read_bytes()[:50])
    # The driver of another machine: its age is told by the clock of the disk, which takes a file to read.
    state = {"token": "x", "host": "elsewhere", "pid": 1, "since": 0, "scheduler": "tcp://x", "n_tiles": N_TILES}
    (job.folder / "driver.json").write_text(json.dumps(state))
    (job.folder / "driver.lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "token": "x"}))
    before = contents(job.folder)
    told = run("info", job.folder)
    assert "seams" in told
    assert "elsewhere" in told
    np.testing.assert_array_equal(Job.open(job.folder).merge("touch").seams, seams)
    assert contents(job.folder) == before
    # What a merge finds is kept by the step that writes, which holds the lock.
    opened = Job.open(job.folder)
    opened.write(opened.merge("touch"), keep_stage=True)
    assert job.store.path("seams", 13).exists()
    assert job.check().sound


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that can be made read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk takes the rights of root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_job_on_a_read_only_disk_can_be_looked_at_and_merged(image: Path, disk: Path) -> None:
    job = staged_job(image, disk)
    seams = job.merge("touch").seams
    job.store.path("seams", 13).unlink()
    until = time.monotonic() + 20
    while subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=False, capture_output=True).returncode:
        assert time.monotonic() < until, "the disk cannot be made read-only"
        time.sleep(0.02)
    assert "seams" in run("info", job.folder)
    run("info", "--check", job.folder)
    np.testing.assert_array_equal(Job.open(job.folder).merge("touch").seams, seams)


# --------------------------------------------------------------------------------------------------------- a stopped write
def slow_writes(seconds: float) -> None:
    """Make writing a tile take a while in this process, after the folder is known to be there; 0 puts it right again."""
    from napari_blockbuster.output.writer import LabelsWriter

    quick: Callable[..., Any] = getattr(LabelsWriter, "quick", LabelsWriter.write_tile)

    def slow(self: Any, *args: Any) -> Any:
        time.sleep(seconds)
        return quick(self, *args)

    LabelsWriter.quick = quick  # type: ignore[attr-defined]
    LabelsWriter.write_tile = slow if seconds else quick  # type: ignore[method-assign]


@pytest.mark.parametrize("where", ["here", "cluster"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
def test_a_stopped_write_leaves_nothing_behind(
    where: str, kind: type[BaseException], client: Any, image: Path, tmp_path: Path
) -> None:
    job = staged_job(image, tmp_path)
    workers = client if where == "cluster" else None

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise kind("stopped")

    if workers is not None:
        client.run(slow_writes, 0.5)
    try:
        with pytest.raises((kind, JobError), match="stopped"):
            job.write(job.merge("touch"), workers, progress=stop)
        assert not list(tmp_path.glob(".*.part"))
        # A task in flight would make the folder anew.
        time.sleep(2)
        assert not list(tmp_path.glob(".*.part"))
    finally:
        if workers is not None:
            client.run(slow_writes, 0)
    assert len(job.staged()) == N_TILES
    job.write(job.merge("touch"), workers)
    assert job.is_complete()
