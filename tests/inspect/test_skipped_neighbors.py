"""Tiles at the edge of a region of interest: what lies in a skipped tile is unknown, and raises no alarm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tissue
from alarm_cases import perfect

from napari_blockbuster import Job
from napari_blockbuster.merge.filters import ObjectFilter


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return tissue.voronoi_tissue((640, 640), 24, 11)


@pytest.mark.parametrize("halo", [40, 0])
def test_cells_that_end_at_a_skipped_tile_are_no_alarm(truth: np.ndarray, tmp_path: Path, halo: int) -> None:
    """The cells of a band of tiles are all cut along its two sides."""
    options: dict = {"tile_shape": 160, "halo": halo}
    job = Job.create(truth, perfect, tmp_path / "labels.zarr", where="160:480,:", inside="touching", **options)
    list(job.stage())
    merged = job.merge("overlap")
    assert job.tiles.n_skipped(job.staged()) == 8
    along_sides = [
        alarm
        for alarm in job.tiles.alarms(merged)
        if min(abs(alarm.place[0] - edge) for edge in (159.5, 479.5)) < 3 or not set(alarm.tiles) <= job.staged()
    ]
    assert along_sides == []
    report = job.tiles.seam_report(merged, "yx")
    if halo:
        assert job.tiles.alarms(merged) == []
        assert report.axes[0].faces == 4
        assert not report.cut
        # Without the faces to skipped tiles, no cell at a seam reaches beyond the halo.
        assert report.beyond_halo == 0
        assert report.conclusion.startswith("the halo was large enough")


def test_a_hole_that_reaches_a_skipped_tile_is_not_filled(tmp_path: Path) -> None:
    """One ring lies in the region; the background of another one goes on in a skipped tile."""
    pixels = np.zeros((40, 60), np.uint8)
    pixels[5:15, 5:15] = 1
    pixels[8:12, 8:12] = 0
    pixels[25:35, 30:50] = 2
    pixels[28:32, 33:47] = 0
    options: dict = {"tile_shape": 20, "halo": 4}
    labels = {}
    for where in (None, "tiles:0,1,3,4"):
        job = Job.create(pixels, perfect, tmp_path / f"{where}.zarr", where=where, **options)
        list(job.stage())
        labels[where] = np.asarray(job.merge("touch", filter=ObjectFilter(fill_holes=True)).labels)
    whole, part = labels[None], labels["tiles:0,1,3,4"]
    assert whole[10, 10]
    assert whole[30, 37]
    assert part[10, 10]
    assert not part[30, 34:40].any()
    np.testing.assert_array_equal(part[:, :20] > 0, whole[:, :20] > 0)


def test_holes_are_filled_beside_objects_outside_the_region(tmp_path: Path) -> None:
    """An object whose centroid lies outside counts as background, also where holes are found."""
    pixels = np.zeros((40, 40), np.uint8)
    pixels[2:38, 2:38] = 1
    pixels[8:32, 8:32] = 0
    pixels[25:30, 25:30] = 3
    options: dict = {"tile_shape": 20, "halo": 8}
    job = Job.create(pixels, perfect, tmp_path / "labels.zarr", where=["0:20,0:40", "0:40,0:21"], **options)
    list(job.stage())
    merged = job.merge("touch", filter=ObjectFilter(fill_holes=True))
    assert (merged.n_objects, merged.n_outside) == (1, 1)


@pytest.mark.parametrize("halo", [4, 0])
@pytest.mark.parametrize(("inside", "incomplete"), [("centroid", 1), ("touching", 1), ("clip", 0)])
def test_objects_that_continue_in_a_skipped_tile_are_counted(
    tmp_path: Path, halo: int, inside: str, incomplete: int
) -> None:
    """One square crosses the last tile border, one lies inside, and one reaches the edge of the image."""
    pixels = np.zeros((20, 60), np.uint8)
    pixels[2:8, 32:46] = 1
    pixels[2:8, 5:15] = 2
    pixels[12:20, 5:15] = 3
    options: dict = {"tile_shape": 20, "halo": halo, "where": "0:20,0:40", "inside": inside}
    job = Job.create(pixels, perfect, tmp_path / "labels.zarr", **options)
    list(job.stage())
    merged = job.merge()
    assert (merged.n_objects, merged.n_incomplete) == (3, incomplete)
    assert job.merge(filter=ObjectFilter(min_size=55)).n_incomplete == incomplete
    assert job.merge(filter=ObjectFilter(min_size=61)).n_incomplete == 0
    settings = job.write(merged).provenance["merge"]
    assert settings.get("incomplete", 0) == incomplete

    # More of the image: the square is whole, and nothing is said.
    options["where"] = None
    whole = Job.create(pixels, perfect, tmp_path / "whole.zarr", **options | {"inside": "centroid"})
    list(whole.stage())
    assert whole.merge().n_incomplete == 0
