"""Accepting tiles, and undoing that, in a process that is killed at any of its file operations.

Whatever was interrupted is finished as a whole, and the tiles of the run itself come back bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from faults import run_out, watch
from jobs import SHAPE, staged_bytes, write_image
from pauses import continued_at_the_end, stopped, take_locks

from napari_blockbuster import Job
from napari_blockbuster.job.folder.acceptances import Notes, accepted_together
from napari_blockbuster.job.steps.second_try import SecondTry, tiles_again
from napari_blockbuster.machine.disk import StoreError
from napari_blockbuster.machine.ownership import Owner
from napari_blockbuster.models import get_model
from napari_blockbuster.stage.arrays import open_array

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

TILES = (0, 1)
Bytes = dict[str, bytes]


def act(folder: Path, what: str, kill_at: int = 0, count_to: str = "", stop_at: int = 0) -> None:
    """Accept the second try in a job folder, or undo it; in a process of its own."""
    job = Job.open(folder)
    second = SecondTry(job)
    os.dup2(os.open(folder.parent / "errors", os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
    watch((str(folder),), kill_at or stop_at, count_to, "STOP" if stop_at else "KILL")
    if what == "accept":
        second.accept(TILES)
    elif what == "back":
        # One of them is enough.
        second.go_back(TILES[:1])
    else:
        job.settle()


@dataclass(frozen=True)
class Stages:
    """A job whose second try waits to be accepted, one where it was accepted, and what their tiles hold."""

    tried: Path
    accepted: Path
    run: Bytes
    first: Bytes


@pytest.fixture(scope="module")
def stages(place: Path) -> Stages:
    image = write_image(place / "image.zarr")
    model, other = (get_model("threshold", threshold=t) for t in (100, 150))
    (place / "tried").mkdir()
    tile = (SHAPE[0], SHAPE[1], SHAPE[2] // 2)
    job = Job.create(image, model, place / "tried" / "o.ome.zarr", tile_shape=tile, halo=3)
    list(job.stage())
    job.merge("touch")
    run = staged_bytes(job)
    # What differs is seen also where both thresholds give the same voxels: each tile is staged at a time of its own.
    list(SecondTry(job).stage(TILES, other))
    shutil.copytree(place / "tried", place / "accepted")
    accepted = Job.open(place / "accepted" / "o.ome.zarr.job")
    SecondTry(accepted).accept(TILES)
    with accepted.files.holding("evidence") as owner:
        # An undo has evidence to delete.
        accepted.tiles.save_evidence(None, owner)
    return Stages(job.folder, accepted.folder, run, marked(accepted))


def marked(job: Job) -> Bytes:
    """All that the tiles of a job are: files and markers."""
    return staged_bytes(job) | {f"{i}/marker": job.store.path("tiles", i).read_bytes() for i in sorted(job.staged())}


def operations(context: ForkServerContext, job: Path, what: str, place: Path) -> list[str]:
    """The file operations of an undisturbed process."""
    folder = copied(job, place / f"peace-{what}")
    counted = place / f"operations-{what}"
    assert run_out(start(context, folder, what, count_to=str(counted))) == 0
    return counted.read_text().splitlines()


def copied(job: Path, to: Path) -> Path:
    shutil.copytree(job.parent, to)
    return to / job.name


def start(context: ForkServerContext, folder: Path, what: str, **options: object):
    process = context.Process(target=act, args=(folder, what), kwargs=options)
    process.start()
    return process


def opened(folder: Path) -> Job:
    # Copies of one folder are at ever new paths; what this process keeps open of earlier ones is of no use.
    open_array.cache_clear()
    return Job.open(folder)


def both_or_none(job: Job, stages: Stages) -> bool:
    """Whether the second try is in the job; it is so as a whole, and the notes say so."""
    known = set(tiles_again(job.folder))
    assert known in (set(), set(TILES)), f"half an acceptance: {known}"
    now = marked(job)
    expected = stages.first if known else marked(opened(stages.tried))
    assert now == expected
    assert accepted_together(job.folder, TILES[:1]) == (list(TILES) if known else [])
    assert job.check().sound
    return bool(known)


def comes_back(folder: Path, stages: Stages) -> None:
    """The tiles of the run are there or can be had, also after another acceptance."""
    job = opened(folder)
    if not tiles_again(folder):
        SecondTry(job).accept(TILES)
        both_or_none(opened(folder), stages)
    assert SecondTry(job).go_back(TILES[1:]) == list(TILES)
    job = opened(folder)
    assert not both_or_none(job, stages)
    assert staged_bytes(job) == stages.run


@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", ["accept", "back"])
def test_an_acceptance_killed_anywhere_is_whole(
    context: ForkServerContext, place: Path, stages: Stages, what: str
) -> None:
    before = {"accept": stages.tried, "back": stages.accepted}[what]
    steps = operations(context, before, what, place)
    told = "\n".join(steps)
    for step in ("again.json", "/tiles/0-999/1.tile", "/seams/", "/labels/", "lock.json"):
        assert step in told, step
    outcomes = []
    # Every third operation: the rule is the same at each of them, and the two tests begin at different ones.
    for number in range(1 if what == "accept" else 2, len(steps) + 1, 3):
        folder = copied(before, place / f"{what}-{number}")
        code = run_out(start(context, folder, what, kill_at=number))
        assert code == -9, (number, code, (folder.parent / "errors").read_text())
        # The next one who works on the job finishes it; killed as well, the one after.
        if Notes.load(folder).unfinished:
            run_out(start(context, folder, "settle", kill_at=number % 29 + 1))
        job = opened(folder)
        job.merge("touch")
        outcomes.append(both_or_none(job, stages))
        comes_back(folder, stages)
        shutil.rmtree(folder.parent)
    # Up to some step nothing has happened, and from there on all of it has.
    assert outcomes == sorted(outcomes, reverse=what == "back")
    assert set(outcomes) == {False, True}


@pytest.mark.parametrize("number", [1, 2])
def test_a_run_that_goes_on_finishes_an_acceptance_first(
    context: ForkServerContext, place: Path, stages: Stages, number: int
) -> None:
    """Killed while a tile is half replaced, it is no missing tile that the run's model would have to make."""
    steps = operations(context, stages.tried, "accept", place / f"{number}")
    # A marker is moved away before its tile is replaced.
    moved = ("os.rename", "/stage-", "/tiles/")
    half = [n + 1 for n, step in enumerate(steps, 1) if all(word in step for word in moved)]
    folder = copied(stages.tried, place / f"half-{number}")
    run_out(start(context, folder, "accept", kill_at=half[number - 1]))
    job = opened(folder)
    assert job.staged() != set(range(job.n_tiles))
    if number == 1:
        assert list(job.stage()) == []
    else:
        assert job.check(repair=True).sound
    assert both_or_none(opened(folder), stages)


def test_an_error_in_the_middle_is_finished_later(stages: Stages, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, say: the call fails, and nothing is lost."""
    folder = copied(stages.tried, place / "full")
    job, real = opened(folder), Owner.write

    def full(owner: Owner, path: Path, data: bytes, **options: Any) -> None:
        if path == job.store.path("tiles", 1):
            raise OSError(28, "No space left on device")
        real(owner, path, data, **options)

    monkeypatch.setattr(Owner, "write", full)
    with pytest.raises(StoreError, match="disk full"):
        SecondTry(job).accept(TILES)
    with contextlib.suppress(StoreError):
        job.merge("touch")
    monkeypatch.undo()
    job.merge("touch")
    assert both_or_none(opened(folder), stages)
    comes_back(folder, stages)


@pytest.mark.parametrize("what", ["accept", "back"])
def test_an_acceptance_whose_job_was_replaced_meanwhile_changes_nothing(
    context: ForkServerContext, place: Path, stages: Stages, what: str
) -> None:
    """Stopped at some of its operations, its job replaced by one with another grid, and continued."""
    before = {"accept": stages.tried, "back": stages.accepted}[what]
    n_steps = len(operations(context, before, what, place / "replaced"))
    for number in range(3, n_steps + 1, max(1, n_steps // 8)):
        folder = copied(before, place / f"replaced-{what}-{number}")
        process = start(context, folder, what, stop_at=number)
        with continued_at_the_end(process):
            assert stopped(process)
            take_locks(folder)
            open_array.cache_clear()
            model, output = get_model("threshold", threshold=120), folder.with_suffix("")
            job = Job.create(place / "image.zarr", model, output, tile_shape=SHAPE, halo=3, overwrite=True)
            list(job.stage())
            theirs = marked(job)
        code, said = run_out(process), (folder.parent / "errors").read_text()
        assert code == 0 or "was taken over by" in said or "has replaced the job" in said, (number, code, said)
        assert marked(opened(folder)) == theirs
        assert job.check().sound
        shutil.rmtree(folder.parent)


def replace_job(folder: Path, image: Path, kill_at: int = 0, count_to: str = "") -> None:
    """Start another run in a job folder, in a process of its own."""
    watch((str(folder),), kill_at, count_to)
    model = get_model("threshold", threshold=100)
    Job.create(image, model, folder.with_suffix(""), tile_shape=SHAPE, halo=3, overwrite=True)


def test_a_replacement_killed_anywhere_starts_anew(context: ForkServerContext, place: Path, stages: Stages) -> None:
    def run(folder: Path, **options: object) -> int | None:
        process = context.Process(target=replace_job, args=(folder, place / "image.zarr"), kwargs=options)
        process.start()
        return run_out(process)

    folder = copied(stages.accepted, place / "anew")
    assert run(folder, count_to=str(place / "operations-anew")) == 0
    n_steps = len((place / "operations-anew").read_text().splitlines())
    is_old = []
    for number in range(1, n_steps + 1, 3):
        folder = copied(stages.accepted, place / f"anew-{number}")
        assert run(folder, kill_at=number) == -9
        is_old.append((folder / "job.json").exists() and opened(folder).n_tiles == 2)
        if is_old[-1]:
            assert both_or_none(opened(folder), stages), "the old job is whole"
        assert run(folder) == 0
        assert opened(folder).n_tiles == 1
        # A lock that the killed process left is taken over when the job is next worked on.
        left = {path.name for path in folder.iterdir() if not path.name.endswith(".own")}
        assert left - {"lock.json", "driver.lock"} == {"job.json", opened(folder).store.folder.name}
        shutil.rmtree(folder.parent)
    assert is_old == sorted(is_old, reverse=True)
    assert set(is_old) == {True, False}
