"""The checker finds every kind of damage, names the tile and un-stages it; resumed, it is bit for bit what it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forked import command_line
from jobs import N_TILES, OPTIONS, Counting, chunks_of, components, finish, staged_bytes, write_image

from napari_blockbuster import Job
from napari_blockbuster.job.folder.lock import JobLockedError
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.stage.labels import OBJECT
from napari_blockbuster.stage.records.tile_file import TileFile, packed
from napari_blockbuster.stage.sums.label_sums import CONTACT, INTENSITY, PLACE

TILE = 13
"""The middle tile: it has all its bands and neighbors."""
RAGGED = 26
"""The last one: thinner along every axis."""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job with all tiles staged and merged once."""
    folder = tmp_path_factory.mktemp("pristine")
    image = write_image(folder / "image.zarr")
    job = Job.create(image, components, folder / "out.ome.zarr", **OPTIONS)
    list(job.stage())
    job.merge("touch")
    return folder


@pytest.fixture
def job(pristine: Path, tmp_path: Path) -> Job:
    """A copy of it, to be damaged."""
    shutil.copytree(pristine / "out.ome.zarr.job", tmp_path / "out.ome.zarr.job")
    return Job.open(tmp_path / "out.ome.zarr.job", model=components)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def delete(path: Path) -> None:
    path.unlink()


def flip(path: Path) -> None:
    """Turn one bit near the middle of the file."""
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 16
    path.write_bytes(bytes(data))


def zeros(path: Path) -> None:
    """What a file system may leave after a loss of power: the length without the content."""
    path.write_bytes(bytes(path.stat().st_size))


def place(job: Job, kind: str, tile: int) -> Path:
    """The file of a tile that holds one kind of what its marker vouches for."""
    return {
        "labels": lambda: job.store.labels_file(job.grid[tile]),
        "marker": lambda: job.store.path("tiles", tile),
        "evidence": lambda: job.store.path("seams", tile),
    }[kind]()


def edit_tile(job: Job, tile: int, **parts: np.ndarray) -> None:
    """Replace parts of a tile's file, with checksums that fit."""
    file = TileFile(str(place(job, "marker", tile)))
    kinds = {"objects": OBJECT, "sums": PLACE, "intensity": INTENSITY, "contacts": CONTACT}
    content = {name: file.part(name, kinds.get(name, np.dtype("<u4"))) for name in file.parts} | parts
    Path(file.name).write_bytes(packed(file.record, content))


DAMAGE = [truncate, empty, delete, flip, zeros]


def test_a_sound_job_is_sound(job: Job) -> None:
    report = job.check()
    assert report.sound
    assert report.n_staged == N_TILES
    assert not report.repaired


@pytest.mark.parametrize("tile", [TILE, RAGGED])
@pytest.mark.parametrize("kind", ["labels", "marker"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_repaired_and_made_again(
    job: Job, damage: Callable[[Path], None], kind: str, tile: int
) -> None:
    before = staged_bytes(job)
    evidence = job.merge("touch").seams
    damage(place(job, kind, tile))
    if (kind, damage) == ("marker", delete):
        assert job.check().sound, "a tile without a marker is a tile that was never staged"
    else:
        found = job.check()
        assert list(found.damaged) == [tile], found
        assert not found.evidence
        assert job.store.is_staged(tile), "checking alone changes nothing"
        report = job.check(repair=True)
        assert report.repaired
        assert list(report.damaged) == [tile]
    assert job.staged() == set(range(N_TILES)) - {tile}
    assert job.check().sound
    assert len(list(job.stage())) == 1
    assert job.check().sound
    assert staged_bytes(job) == before
    np.testing.assert_array_equal(Job.open(job.folder).merge("touch").seams, evidence)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_evidence_costs_no_tile(job: Job, damage: Callable[[Path], None]) -> None:
    evidence = job.merge("touch").seams
    damage(place(job, "evidence", TILE))
    report = job.check(repair=True)
    assert not report.damaged
    assert bool(report.evidence) == (damage is not delete), "evidence that is missing is made before the next merge"
    assert len(job.staged()) == N_TILES
    assert job.check().sound
    np.testing.assert_array_equal(Job.open(job.folder).merge("touch").seams, evidence)


@pytest.mark.parametrize("damage", [truncate, empty, delete, zeros])
def test_unreadable_evidence_is_made_again_without_being_asked(job: Job, damage: Callable[[Path], None]) -> None:
    """A loss of power may cut it short: it is not synchronised with the disk as it is written."""
    evidence = job.merge("touch").seams
    damage(place(job, "evidence", TILE))
    np.testing.assert_array_equal(Job.open(job.folder).merge("touch").seams, evidence)


def test_labels_of_another_tile_or_run_are_found(job: Job) -> None:
    """Each file is whole; together they are not."""
    other = place(job, "labels", 12).read_bytes()
    place(job, "labels", TILE).write_bytes(other)
    assert "labels: the voxels of its objects" in job.check().damaged[TILE]


def test_a_band_of_another_tile_is_found(job: Job) -> None:
    edit_tile(job, TILE, **{"0/low": job.store.read_band(14, 0, "low")})
    assert "0/low: the band is not the border of the labels" in job.check().damaged[TILE]


def test_objects_of_another_tile_are_found(job: Job) -> None:
    edit_tile(job, TILE, objects=job.store.staged(14).objects())
    assert "objects, the table has" in job.check().damaged[TILE]


def test_sums_of_other_labels_are_found(job: Job) -> None:
    sums = job.store.staged(TILE).sums().place.copy()
    sums[1, 0] += 1
    edit_tile(job, TILE, sums=sums)
    assert "sums: they are not those of the labels" in job.check().damaged[TILE]


def test_a_flipped_bit_anywhere_in_the_file_of_a_tile_is_found(job: Job) -> None:
    path = place(job, "marker", TILE)
    data = path.read_bytes()
    places = np.linspace(0, 8 * len(data) - 1, 300).astype(int).tolist()
    for at in places:
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged"):
            job.store.staged(TILE).problems()


def test_a_marker_of_a_tile_that_is_none(job: Job) -> None:
    job.store.path("tiles", 4711).parent.mkdir()
    job.store.path("tiles", 4711).write_bytes(job.store.path("tiles", 0).read_bytes())
    job.store.path("tiles", 1).write_bytes(job.store.path("tiles", 0).read_bytes())
    report = job.check(repair=True)
    assert report.strangers == [4711]
    assert report.damaged[1] == "marker: it is that of tile 0"
    assert job.check().sound


@pytest.mark.parametrize("damage", [truncate, delete])
def test_lost_metadata_of_the_labels_come_back_with_all_tiles(job: Job, damage: Callable[[Path], None]) -> None:
    before = staged_bytes(job)
    damage(job.store.folder / "labels" / "zarr.json")
    report = job.check()
    assert "labels" in report.layout[0]
    assert job.check(repair=True).repaired
    assert job.check().sound
    assert len(job.staged()) == N_TILES
    assert staged_bytes(job) == before


def test_many_tiles_at_once(job: Job, pristine: Path) -> None:
    random = np.random.default_rng(5)
    hit, gone = set(), set()
    for tile in random.choice(N_TILES, 9, replace=False).tolist():
        damage, kind = DAMAGE[random.integers(4)], ["labels", "marker"][random.integers(2)]
        damage(place(job, kind, tile))
        hit.add(tile)
        gone |= {tile} if (damage, kind) == (delete, "marker") else set()
    assert set(job.check(repair=True).damaged) == hit - gone
    assert len(list(job.stage())) == len(hit)
    before = Job.open(pristine / "out.ome.zarr.job")
    assert staged_bytes(job) == staged_bytes(before)


def test_a_merge_that_meets_damage_names_the_checker(job: Job) -> None:
    empty(place(job, "marker", TILE))
    with pytest.raises(JobError, match=r"a staged tile of .* is damaged .*info --check --repair"):
        job.merge("touch")


def test_a_write_that_meets_damage_names_the_checker_and_leaves_nothing(job: Job) -> None:
    merged = job.merge("touch")
    flip(place(job, "labels", TILE))
    with pytest.raises(JobError, match="info --check --repair"):
        job.write(merged)
    assert not Path(job.spec.output).exists()
    assert not list(job.folder.parent.glob(".*.part"))


def test_a_job_in_use_is_not_repaired(job: Job) -> None:
    job.store.unstage([0, 1])
    events = job.stage()
    next(events)
    with pytest.raises(JobLockedError):
        Job.open(job.folder).check(repair=True)
    events.close()


def test_a_written_job_without_tiles_says_so(pristine: Path, tmp_path: Path) -> None:
    model = Counting(tmp_path / "log")
    job = Job.create(pristine / "image.zarr", model, tmp_path / "o.ome.zarr", **OPTIONS)
    assert chunks_of(finish(job))
    with pytest.raises(JobError, match="were deleted after the result was written"):
        job.check()


# -------------------------------------------------------------------------------------------------------- command line
def run(*words: object, code: int) -> str:
    done = command_line(*words)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_info_check_tells_and_repairs(job: Job) -> None:
    assert "sound: every marker has its labels, bands, objects and count" in run("info", "--check", job.folder, code=0)
    truncate(place(job, "labels", TILE))
    told = run("info", "--check", job.folder, code=1)
    assert "tile 13" in told
    assert "damaged; to repair: napari-blockbuster info --check --repair" in told
    assert "repaired: 1 tile unstaged; to segment them: napari-blockbuster resume" in run(
        "info", "--check", "--repair", job.folder, code=0
    )
    assert "26 staged tiles of 27" in run("info", "--check", job.folder, code=0)
    assert "--repair requires --check" in run("info", "--repair", job.folder, code=2)
    assert "--check takes a job folder" in run("info", "--check", job.folder.parent, code=2)
