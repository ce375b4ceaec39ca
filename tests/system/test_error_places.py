"""Errors keep their meaning: only what reading a tile or writing a disk raises is called damage or a disk error."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from jobs import OPTIONS, components

from napari_blockbuster import Job
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.stage.records import tile_file
from napari_blockbuster.stage.records.tile_file import TileFile


@pytest.fixture
def job(image: Path, tmp_path: Path) -> Job:
    job = Job.create(image, components, tmp_path / "o.ome.zarr", **OPTIONS)
    list(job.stage())
    return job


@pytest.mark.parametrize("kind", [ValueError, IndexError, ConnectionError, FileNotFoundError, OSError, RuntimeError])
def test_an_error_of_the_caller_stays_what_it_is(kind: type[Exception], job: Job) -> None:
    """What a progress callback raises is neither a damaged tile nor a disk error."""

    def progress(done: int, total: int) -> None:
        raise kind("of the caller")

    merged = job.merge("touch")
    with pytest.raises(kind, match=r"^of the caller$"):
        job.write(merged, progress=progress)
    with pytest.raises(kind, match=r"^of the caller$"):
        job.filtered(merged, ObjectFilter(fill_holes=True), progress=progress)
    assert not list(Path(job.spec.output).parent.glob(".*.part"))
    assert job.write(merged).n_objects == merged.n_objects


def test_an_error_of_a_cluster_stays_what_it_is(job: Job) -> None:
    def refuse() -> None:
        raise ConnectionError("no cluster today")

    with pytest.raises(ConnectionError, match=r"^no cluster today$"):
        job.filtered(job.merge("touch"), ObjectFilter(fill_holes=True), refuse)


def test_a_damaged_tile_is_still_named(job: Job) -> None:
    merged = job.merge("touch")
    chunk = job.store.labels_file(job.grid[0])
    chunk.write_bytes(b"damaged")
    for action in (lambda: job.write(merged), lambda: job.filtered(merged, ObjectFilter(fill_holes=True))):
        with pytest.raises(JobError, match=r"a staged tile of .* is damaged .*--repair"):
            action()
    job.store.path("tiles", 1).write_bytes(b"damaged")
    with pytest.raises(JobError, match=r"a staged tile of .* is damaged"):
        Job.open(job.folder).merge("touch")


def test_damaged_bands_are_named(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(job.store.folder / "seams" / "0-999")
    path = job.store.path("tiles", 0)
    file, content = TileFile(str(path)), bytearray(path.read_bytes())
    for name in (name for name in file.parts if "/" in name):
        content[file._start + file._parts[name][0]] ^= 1
    path.write_bytes(content)
    # As in a process that did not stage the tiles, and has none of their parts in memory.
    monkeypatch.setattr(tile_file, "_recent", tile_file._Recent(2**20))
    with pytest.raises(JobError, match=r"a staged tile of .* is damaged"):
        job.merge("touch")
