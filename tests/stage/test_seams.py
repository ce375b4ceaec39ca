"""Evidence: what the table says is what can be counted by hand, and it is complete whatever the order of tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import stage_all, stage_tiles
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.job.folder.lock import holding
from napari_blockbuster.merge.rules import band_iou, face_iou
from napari_blockbuster.stage.seams.evidence import close_seams, compare_missing, gather_evidence, missing_pairs
from napari_blockbuster.stage.store import StageStore


def counts(store: StageStore) -> np.ndarray:
    return np.array([store.record(index).n_objects for index in range(len(store.grid))])


def pairs_only(table: np.ndarray) -> np.ndarray:
    return table[table["low_id"] > 0]


def test_columns_of_one_object_across_one_face(tmp_path: Path) -> None:
    image = np.zeros((20, 30), np.int32)
    image[5:9, 8:13] = 1  # columns 8..12; the seam lies at 10
    grid = TileGrid(image.shape, (20, 10), 8, band_depth=4)
    store = stage_all(tmp_path / "s", grid, image, lambda x: x.copy())
    rows = pairs_only(gather_evidence(store, range(3)))
    assert len(rows) == 1
    row = rows[0]
    assert (row["low"], row["high"], row["low_id"], row["high_id"], row["axis"]) == (0, 1, 1, 1, 1)
    # Rows 5..8 touch straight; each but the last also diagonally down, each but the first up.
    assert row["contact"].tolist() == [4, 6, 0]
    assert (row["low_face"], row["high_face"]) == (4, 4)
    assert (row["shared"], row["low_band"], row["high_band"]) == (20, 20, 20)
    assert row["position"].tolist() == [6.5, 9.5]
    assert band_iou(rows)[0] == face_iou(rows)[0] == 1


def test_disagreement_is_measured_in_the_band_of_both(tmp_path: Path) -> None:
    """The low tile sees columns 6..11, the high tile 8..13: they share 8..11 of 6..13."""
    grid = TileGrid((10, 20), (10, 10), 8, band_depth=4)
    seen = {0: slice(6, 12), 1: slice(8, 14)}

    def segmenter(tile, pixels):
        whole = np.zeros(grid.shape, int)
        whole[2:4, seen[tile.index]] = 5
        return whole[tile.read.slices]

    store = stage_tiles(tmp_path / "s", grid, lambda tile: np.zeros(tile.read.shape), segmenter)
    rows = pairs_only(gather_evidence(store, range(2)))
    assert (rows["shared"][0], rows["low_band"][0], rows["high_band"][0]) == (8, 12, 12)
    assert band_iou(rows)[0] == pytest.approx(8 / 16)


def test_an_id_in_a_trimmed_halo_alone_bridges_nothing(tmp_path: Path) -> None:
    """The high tile fuses two cells in its halo; only what it writes may speak."""
    grid = TileGrid((10, 20), (10, 10), 10, band_depth=6)

    def segmenter(tile, pixels):
        whole = np.zeros(grid.shape, int)
        if tile.index == 0:
            whole[1:4, 5:10], whole[4:7, 5:10] = 1, 2
        else:
            whole[1:7, 5:10] = 3
        return whole[tile.read.slices]

    store = stage_tiles(tmp_path / "s", grid, lambda tile: np.zeros(tile.read.shape), segmenter)
    assert len(pairs_only(gather_evidence(store, range(2)))) == 0


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.randoms(use_true_random=False))
def test_evidence_does_not_depend_on_the_order_of_tiles(tmp_path_factory, seed: int, halo: int, random) -> None:
    rng = np.random.default_rng(seed)
    image = ndimage.label(rng.random((19, 23)) < 0.5)[0]
    grid = TileGrid(image.shape, (7, 8), halo, band_depth=3)
    order = list(range(len(grid)))
    tables = []
    for _ in range(2):
        random.shuffle(order)
        store = stage_all(tmp_path_factory.mktemp("s") / "stage", grid, image, lambda x: x, order)
        tables.append(gather_evidence(store, order))
        assert not missing_pairs(grid, tables[-1], counts(store))
    np.testing.assert_array_equal(*tables)


def test_evidence_lost_with_a_killed_worker_is_made_again_from_the_bands(tmp_path: Path) -> None:
    image = np.ones((20, 20), int)
    grid = TileGrid(image.shape, 10, 4)
    store = stage_all(tmp_path / "s", grid, image, lambda x: x)
    complete = gather_evidence(store, range(4))
    for index in (1, 3):
        store.path("seams", index).unlink(missing_ok=True)
    rest = gather_evidence(store, range(4))
    missing = missing_pairs(grid, rest, counts(store))
    assert missing
    for pairs in missing.values():
        with holding(store.folder / "lock.json", "compare") as lock:
            compare_missing(store, pairs, lock.owner)
    np.testing.assert_array_equal(gather_evidence(store, range(4)), complete)


def test_two_tiles_that_saw_each_other_count_once(tmp_path: Path) -> None:
    image = np.ones((10, 20), int)
    grid = TileGrid(image.shape, 10, 4)
    store = stage_all(tmp_path / "s", grid, image, lambda x: x)
    close_seams(store, 0)  # the race: tile 0 sees tile 1 as well
    assert len(pairs_only(gather_evidence(store, range(2)))) == 1


def test_bands_are_read_not_volumes(tmp_path: Path) -> None:
    """Closing seams reads the neighbors' bands: the label chunks can be gone."""
    import shutil

    image = ndimage.label(np.random.default_rng(0).random((24, 24, 24)) < 0.4)[0]
    grid = TileGrid(image.shape, 12, 4)
    store = stage_all(tmp_path / "s", grid, image, lambda x: x)
    complete = gather_evidence(store, range(8))
    shutil.rmtree(store.folder / "seams" / "0-999")
    shutil.rmtree(store.folder / "labels" / "c")
    for pairs in missing_pairs(grid, gather_evidence(store, range(8)), counts(store)).values():
        with holding(store.folder / "lock.json", "compare") as lock:
            compare_missing(store, pairs, lock.owner)
    np.testing.assert_array_equal(gather_evidence(store, range(8)), complete)
