"""Disks that fill up, turn read-only or vanish in the middle of a run stop it with one sentence; mended, it goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import N_TILES, OPTIONS, Counting, chunks_of, components, finish

from napari_blockbuster import Job, segment
from napari_blockbuster.machine.disk import StoreError
from napari_blockbuster.machine.errors import JobError


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of four megabytes, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0755", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk takes the rights of root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(disk: Path) -> Path:
    """Use up all of a disk; returns the file that does."""
    path = disk / "film.mkv"
    with open(path, "wb", buffering=0) as file:
        for size in (4096, 512, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return path


def read_only(disk: Path) -> None:
    """Waits for the tile that is being written: a disk is busy while a file on it is open for writing."""
    until = time.monotonic() + 20
    while subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=False, capture_output=True).returncode:
        assert time.monotonic() < until, "the disk cannot be made read-only"
        time.sleep(0.02)


def writable(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def stage_some(job: Job, client: Any, then: Callable[[], object], after: int = 5) -> Iterator[object]:
    """Stage, and let something happen to the disk after a few tiles."""
    for number, event in enumerate(job.stage(client), 1):
        yield event
        if number == after:
            then()


# -------------------------------------------------------------------------------------------------------- while staging
@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_a_full_disk_stops_the_run_and_keeps_the_tiles(
    where: str, client, disk: Path, image: Path, expected, tmp_path: Path
) -> None:
    model = Counting(tmp_path / "calls")
    job = Job.create(image, model, disk / "o.ome.zarr", **OPTIONS)
    film: list[Path] = []
    events = []
    with pytest.raises(StoreError) as error:  # noqa: PT012
        for event in stage_some(job, client if where == "cluster" else None, lambda: film.append(fill(disk))):
            events.append(event)
    kept = len(job.staged())
    assert 5 <= kept < N_TILES
    assert f"disk full: {len(events)} of {N_TILES} tiles staged are kept. Free disk space, then resume" in str(
        error.value
    )
    assert job.failed() == {}, "a full disk is no tile's fault"
    assert model.calls <= kept + 6
    film[0].unlink()
    assert not (job.folder / "lock.json").exists()
    again = Job.open(job.folder, model=model)
    assert chunks_of(finish(again)) == expected
    assert model.calls <= N_TILES + 6


def test_a_read_only_disk_stops_the_run(disk: Path, image: Path, expected) -> None:
    job = Job.create(image, components, disk / "o.ome.zarr", **OPTIONS)
    message = r"read-only: \d+ of 27 tiles staged are kept. Make the folder writable, then resume"
    with pytest.raises(JobError, match=message):
        list(stage_some(job, None, lambda: read_only(disk)))
    writable(disk)
    (job.folder / "lock.json").unlink(missing_ok=True)
    assert chunks_of(finish(Job.open(job.folder, model=components))) == expected


@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_a_job_folder_that_vanishes_stops_the_run(where: str, client, image: Path, expected, tmp_path: Path) -> None:
    """A disk on the network goes away, and comes back."""
    model = Counting(tmp_path / "calls")
    job = Job.create(image, model, tmp_path / "o.ome.zarr", **OPTIONS)
    elsewhere = tmp_path / "elsewhere"
    message = r"job folder gone: \d+ of 27 tiles staged are kept. Reconnect its disk, then resume"
    with pytest.raises(JobError, match=message):
        list(stage_some(job, client if where == "cluster" else None, lambda: job.folder.rename(elsewhere)))
    assert model.calls < N_TILES
    shutil.rmtree(job.folder, ignore_errors=True)
    elsewhere.rename(job.folder)
    (job.folder / "lock.json").unlink(missing_ok=True)
    assert chunks_of(finish(Job.open(job.folder, model=model))) == expected


# -------------------------------------------------------------------------------------------------------- while writing
@pytest.mark.parametrize("where", ["threads", "cluster"])
def test_a_disk_that_fills_up_while_writing_keeps_tiles_and_old_result(
    where: str, client, disk: Path, image: Path, expected
) -> None:
    workers = client if where == "cluster" else None
    job = Job.create(image, components, disk / "o.ome.zarr", **OPTIONS)
    finish(job, keep_stage=True)
    film: list[Path] = []

    def watch(done: int, total: int) -> None:
        if done == 3:
            film.append(fill(disk))

    with pytest.raises(StoreError, match=r"disk full: all 27 staged tiles are kept. Free disk space, then resume"):
        job.write(job.merge("none"), workers, overwrite=True, progress=watch)
    assert chunks_of(disk / "o.ome.zarr") == expected, "the result that was there is still there"
    assert not list(disk.glob(".*.part")), "what is half written is in the way"
    film[0].unlink()
    assert chunks_of(job.write(job.merge("touch"), workers, overwrite=True).path) == expected


# ------------------------------------------------------------------------------------------------ before the first tile
def test_a_disk_without_room_is_refused_with_the_numbers(disk: Path) -> None:
    import dask.array as da

    large = da.zeros((2000, 2000, 2000), chunks=100, dtype=np.uint8)
    message = r"has \d+(\.\d)? (bytes|kB|MB) free, and the tiles and labels of .* need about \d+\.\d GB\. Free some"
    with pytest.raises(OSError, match=message):
        Job.create(large, components, disk / "o.ome.zarr", tile_shape=200, halo=10)
    assert list(disk.iterdir()) == []


def test_a_full_disk_is_told_before_the_first_tile(disk: Path, image: Path, tmp_path: Path) -> None:
    fill(disk)
    model = Counting(tmp_path / "calls")
    with pytest.raises((OSError, JobError), match=r"not writable \(No space left on device\)|disk full"):
        segment(image, model, disk / "o.ome.zarr", progress=False, **OPTIONS)
    assert model.calls == 0


def test_a_read_only_disk_is_refused(disk: Path, image: Path) -> None:
    read_only(disk)
    with pytest.raises(PermissionError, match=r"is not writable \(Read-only file system\)\. Choose another output"):
        segment(image, components, disk / "o.ome.zarr", progress=False, **OPTIONS)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users of POSIX")
def test_a_folder_without_permission_is_refused(image: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError, match="is not writable"):
        segment(image, components, tmp_path / "locked" / "o.ome.zarr", progress=False, **OPTIONS)


def test_an_output_in_a_file_is_refused(image: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(NotADirectoryError, match=r"notes\.txt is a file"):
        segment(image, components, tmp_path / "notes.txt" / "o.ome.zarr", progress=False, **OPTIONS)


def test_the_image_through_links_is_refused(image: Path, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in image.rglob("*") if p.is_file()}
    (tmp_path / "a").symlink_to(image)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "parent").symlink_to(image.parent)
    for out in (tmp_path / "b", tmp_path / "b" / "c", tmp_path / "parent" / image.name, tmp_path / "parent"):
        message = "is the image itself, or holds or lies in its pixels. Choose another output"
        with pytest.raises(ValueError, match=message):
            segment(image, components, out, overwrite=True, progress=False, **OPTIONS)
    assert {p: p.read_bytes() for p in image.rglob("*") if p.is_file()} == before


def test_links_that_lead_to_themselves(image: Path, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises((ValueError, OSError), match=r"link that leads to itself|cannot be created|loop"):
        segment(image, components, tmp_path / "a" / "o.ome.zarr", progress=False, **OPTIONS)
    with pytest.raises((ValueError, OSError)) as error:
        segment(tmp_path / "a", components, tmp_path / "o.ome.zarr", progress=False, **OPTIONS)
    assert str(tmp_path / "a") in str(error.value)
