"""Tiles segmented again: beside the old ones, taken over, taken back, and told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_blockbuster import Job
from napari_blockbuster.job.steps.second_try import SecondTry, accepted_together, tiles_again, tiles_around
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.merge.decisions import Decisions
from napari_blockbuster.models import get_model


@pytest.fixture
def job(tmp_path: Path, blobs: np.ndarray) -> Job:
    made = Job.create(blobs[20], get_model("threshold", threshold=600), tmp_path / "l.ome.zarr", tile_shape=32, halo=8)
    for _ in made.stage():
        pass
    return made


def staged(job: Job) -> np.ndarray:
    return np.asarray(job.store.labels.read().result())


def test_accepted_tiles_are_those_of_a_run_with_these_settings(job: Job, tmp_path: Path, blobs: np.ndarray) -> None:
    other = get_model("threshold", threshold=1200)
    before, plain = staged(job), job.merge("touch")
    second = SecondTry(job)
    assert {r.index for r in second.stage([0, 4], other)} == {0, 4}
    np.testing.assert_array_equal(staged(job), before)
    second.accept([0, 4])
    merged = job.merge("touch")

    whole = Job.create(blobs[20], other, tmp_path / "other.ome.zarr", tile_shape=32, halo=8)
    for _ in whole.stage():
        pass
    for tile in job.grid:
        expected = staged(whole) if tile.index in (0, 4) else before
        np.testing.assert_array_equal(staged(job)[tile.core.slices], expected[tile.core.slices])
    # Its seams were compared anew: as if the stage had been made like this from the start.
    assert not np.array_equal(merged.seams, plain.seams)
    fresh = Job.open(job.folder, image=blobs[20]).merge("touch")
    np.testing.assert_array_equal(np.asarray(merged.labels), np.asarray(fresh.labels))
    assert job.check().sound
    result = job.write(merged, keep_stage=True)
    again = result.provenance["tiles"]["segmented_again"]
    assert set(again) == {"0", "4"}
    assert again["0"]["threshold"] == 1200

    second.go_back([0, 4])
    np.testing.assert_array_equal(staged(job), before)
    np.testing.assert_array_equal(np.asarray(job.merge("touch").labels), np.asarray(plain.labels))
    assert tiles_again(job.folder) == {}
    assert job.check().sound


def test_a_second_second_try_goes_back_to_the_run(job: Job) -> None:
    before = staged(job)
    second = SecondTry(job)
    for threshold in (900, 1200):
        list(second.stage([2], get_model("threshold", threshold=threshold)))
        second.accept([2])
    SecondTry(Job.open(job.folder)).go_back([2])
    np.testing.assert_array_equal(staged(job), before)


def test_an_acceptance_is_undone_as_a_whole(job: Job) -> None:
    before, second = staged(job), SecondTry(job)
    list(second.stage([0, 1, 3, 5, 7, 8], get_model("threshold", threshold=1200)))
    second.accept([0, 3])
    second.accept([5, 8])
    assert accepted_together(job.folder, [0, 2]) == [0, 3]
    assert second.go_back([0]) == [0, 3]
    assert set(tiles_again(job.folder)) == {5, 8}
    # Two acceptances that share a tile are undone together: that tile is in both.
    second.accept([7, 8])
    assert accepted_together(job.folder, [5]) == [5, 7, 8]
    assert SecondTry(Job.open(job.folder)).go_back([5]) == [5, 7, 8]
    np.testing.assert_array_equal(staged(job), before)
    assert accepted_together(job.folder, range(job.n_tiles)) == []


def test_each_tile_is_noted_with_the_settings_that_made_it(job: Job) -> None:
    second = SecondTry(job)
    for index, threshold in ((0, 900), (1, 1200)):
        list(second.stage([index], get_model("threshold", threshold=threshold)))
    second.accept([0, 1])
    assert {i: known["threshold"] for i, known in tiles_again(job.folder).items()} == {0: 900, 1: 1200}


def test_notes_of_an_earlier_version_are_read(job: Job) -> None:
    second = SecondTry(job)
    list(second.stage([2, 3], get_model("threshold", threshold=900)))
    second.accept([2, 3])
    notes = job.folder / "again.json"
    notes.write_text(json.dumps({"tiles": json.loads(notes.read_text())["tiles"]}))
    assert second.go_back([2]) == [2], "what was accepted together is not known of them"
    assert set(tiles_again(job.folder)) == {3}


def test_a_tile_that_the_run_segments_anew_is_its_own_again(job: Job) -> None:
    """Found damaged, say: its settings are then those of the run, and so says the provenance."""
    before, second = staged(job), SecondTry(job)
    list(second.stage([2, 3], get_model("threshold", threshold=1200)))
    second.accept([2, 3])
    job.store.labels_file(job.grid[2]).write_bytes(b"")
    assert list(job.check(repair=True).damaged) == [2]
    assert [event.tile.index for event in job.stage()] == [2]
    assert set(tiles_again(job.folder)) == {3}
    result = job.write(job.merge("touch"), keep_stage=True)
    assert set(result.provenance["tiles"]["segmented_again"]) == {"3"}
    assert second.go_back([3]) == [3]
    np.testing.assert_array_equal(staged(job), before)


def test_going_back_keeps_why_a_tile_had_failed(blobs: np.ndarray, tmp_path: Path) -> None:
    def fails(pixels: np.ndarray) -> np.ndarray:
        if fails.calls:  # type: ignore[attr-defined]
            raise ValueError("no light")
        fails.calls = 1  # type: ignore[attr-defined]
        return (pixels > 600).astype(int)

    fails.calls = 0  # type: ignore[attr-defined]
    job = Job.create(blobs[20], fails, tmp_path / "f.ome.zarr", tile_shape=(48, 80), halo=8)
    list(job.stage())
    assert list(job.failed()) == [1]
    second = SecondTry(job)
    list(second.stage([1], get_model("threshold", threshold=600)))
    second.accept([1])
    assert job.failed() == {}
    second.go_back([1])
    assert job.failed()[1].message == "no light"
    assert job.staged() == {0}


def test_verdicts_on_a_replaced_tile_are_set_aside_until_it_is_back(job: Job) -> None:
    merged = job.merge("touch")
    seam = merged.seams[merged.joined][0]
    pair = ((int(seam["low"]), int(seam["low_id"])), (int(seam["high"]), int(seam["high_id"])))
    Decisions.load(job.folder).set(pair, "cut")
    second = SecondTry(job)
    list(second.stage([pair[0][0]], get_model("threshold", threshold=700)))
    second.accept([pair[0][0]])
    assert pair in Decisions.load(job.folder).set_aside
    second.go_back([pair[0][0]])
    assert Decisions.load(job.folder).cut == (pair,)


def test_what_was_not_segmented_again_cannot_be_accepted(job: Job, client: Any) -> None:
    second = SecondTry(job)
    with pytest.raises(JobError, match="Tile 3 was not segmented again"):
        second.accept([3])
    with pytest.raises(JobError, match="Tile 3 is already the original tile of the run"):
        second.go_back([3])
    assert [r.index for r in second.stage([3], get_model("threshold", threshold=700), client) if r] == [3]
    second.accept([3])


def test_around_a_tile_are_its_face_neighbors(job: Job) -> None:
    assert job.grid.grid_shape == (3, 3)
    assert sorted(tiles_around(job.grid, 4)) == [1, 3, 4, 5, 7]
    assert sorted(tiles_around(job.grid, 0)) == [0, 1, 3]
