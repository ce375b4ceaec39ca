"""What holds two labels together: cutting exactly that makes them two objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tissue

from napari_blockbuster import Job
from napari_blockbuster.merge.links import one_object, other_links


def identity(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.int32)


def staged(folder: Path, image: np.ndarray, tile: int) -> Job:
    job = Job.create(image, identity, folder / "labels.ome.zarr", tile_shape=tile, halo=16)
    assert all(type(event).__name__ == "TileStaged" for event in job.stage())
    return job


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """One object that covers the corner where four tiles meet."""
    return staged(tmp_path_factory.mktemp("corner"), np.ones((120, 120), np.uint16), 60)


def test_an_object_at_a_corner_is_cut_along_one_seam(corner: Job) -> None:
    left = (0, 1), (1, 1)
    merged = corner.merge(cut=[left])
    assert merged.n_objects == 1
    assert other_links(merged, left) == [((2, 1), (3, 1))]
    assert one_object(merged).all()
    assert corner.merge(cut=[left, *other_links(merged, left)]).n_objects == 2


def test_a_join_by_hand_is_cut_last(corner: Job) -> None:
    left, across = ((0, 1), (1, 1)), ((0, 1), (3, 1))
    merged = corner.merge(cut=[left], join=[across])
    found = other_links(merged, left)
    assert across not in found
    assert not corner.merge(cut=[left, *found], join=[across]).is_one_object(left)


@pytest.mark.parametrize("rule", ["touch", "overlap"])
def test_cutting_the_other_links_separates_any_pair(tmp_path: Path, rule: str) -> None:
    image: Any = tissue.voronoi_tissue((120, 120), 12, seed=3).astype(np.uint16)
    job = staged(tmp_path, image, 40)
    whole = job.merge(rule=rule)
    pairs = [
        ((int(s["low"]), int(s["low_id"])), (int(s["high"]), int(s["high_id"]))) for s in whole.seams[whole.joined]
    ]
    some = 0
    for pair in pairs:
        merged = job.merge(rule=rule, cut=[pair])
        links = other_links(merged, pair)
        assert bool(links) == merged.is_one_object(pair)
        some += bool(links)
        separate = job.merge(rule=rule, cut=[pair, *links])
        assert not separate.is_one_object(pair)
        row = separate.row_of(pair)
        assert not one_object(separate)[row]
    assert some > 0
