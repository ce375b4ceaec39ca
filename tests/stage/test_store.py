"""The files of a tile: how many there are, in which order they reach the disk, and where they lie."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers import stage_all
from scipy import ndimage

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.machine import files
from napari_blockbuster.stage.seams.evidence import close_seams, gather_evidence, missing_pairs
from napari_blockbuster.stage.staging import stage_labels
from napari_blockbuster.stage.store import StageStore

GRID = TileGrid((24, 24, 24), 12, 4)


@pytest.fixture
def image() -> np.ndarray:
    return ndimage.label(np.random.default_rng(0).random(GRID.shape) < 0.3)[0]


def files_of(store: StageStore) -> set[str]:
    every = (path for path in store.folder.rglob("*") if path.is_file() and path.name != "zarr.json")
    return {str(path.relative_to(store.folder)) for path in every}


def test_a_tile_costs_three_files_and_two_synchronizations(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stage_all(tmp_path / "s", GRID, image, lambda x: x, range(6))
    before, steps = files_of(store), []
    synchronize, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append("fsync"), synchronize(file)))
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append(Path(b).suffix or "labels"), rename(a, b)))
    staging = stage_labels(store, GRID[6], image[GRID[6].read.slices])
    staging.finish()
    close_seams(store, 6, staging.bands)
    # The labels are on the disk, under their name, before the marker has its name.
    assert steps == ["labels", "fsync", "fsync", ".tile", ".npy"]
    assert files_of(store) - before == {"labels/c/1/1/0", "tiles/0-999/6.tile", "seams/0-999/6.npy"}


def test_a_tile_without_objects_costs_one_file(tmp_path: Path, image: np.ndarray) -> None:
    image[GRID[3].read.slices] = 0
    store = stage_all(tmp_path / "s", GRID, image, lambda x: x)
    assert sorted(name for name in files_of(store) if Path(name).stem == "3") == ["tiles/0-999/3.tile"]
    assert not (store.labels_file(GRID[3])).exists()
    np.testing.assert_array_equal(store.read_labels(GRID[3]).result(), 0)
    for axis, side in GRID.band_keys:
        if (band := GRID.band(GRID[3], axis, side)) is not None:
            np.testing.assert_array_equal(store.read_band(3, axis, side), np.zeros(band.shape))
    counts = np.array([store.record(index).n_objects for index in range(8)])
    evidence = gather_evidence(store, range(8))
    assert 3 not in evidence["low"]
    assert not missing_pairs(GRID, evidence, counts)


def test_labels_of_an_attempt_that_was_killed_do_not_stay(tmp_path: Path, image: np.ndarray) -> None:
    """The first attempt found objects and was killed before the marker, the second one found none."""
    store = stage_all(tmp_path / "s", GRID, image, lambda x: x, [0])
    store.path("tiles", 0).unlink()
    stage_labels(store, GRID[0], np.zeros_like(image[GRID[0].read.slices])).finish()
    np.testing.assert_array_equal(store.read_labels(GRID[0]).result(), 0)


def test_zarr_reads_the_labels_of_a_stage(tmp_path: Path) -> None:
    """Ragged at the far edges."""
    grid = TileGrid((20, 33), (8, 10), 3)
    image = ndimage.label(np.random.default_rng(1).random(grid.shape) < 0.4)[0]
    store = stage_all(tmp_path / "s", grid, image, lambda x: x)
    array = zarr.open_array(str(store.folder / "labels"), mode="r")
    np.testing.assert_array_equal(array[:], store.labels.read().result())
    np.testing.assert_array_equal(array[:] > 0, image > 0)


def test_a_folder_holds_the_files_of_a_thousand_tiles(tmp_path: Path) -> None:
    grid = TileGrid((2, 2 * 1100), (2, 2))
    store = StageStore.create(tmp_path / "s", grid)
    for index in (0, 999, 1000, 1099):
        staging = stage_labels(store, grid[index], np.ones((2, 2), int))
        staging.finish()
        close_seams(store, index, staging.bands)
    assert store.indices("tiles") == {0, 999, 1000, 1099}
    assert store.indices("seams") == {1000}
    assert sorted(path.name for path in (store.folder / "tiles").iterdir()) == ["0-999", "1000-1999"]
    store.unstage([999])
    assert store.indices("tiles") == {0, 1000, 1099}
    assert store.indices("seams") == set()


def test_folders_are_created_below_a_folder_that_exists_only(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write_atomically(tmp_path / "gone" / "0-999" / "1.tile", b"x", below=tmp_path / "gone")
    assert not (tmp_path / "gone").exists()
