"""What a model may return, and what its error says otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.stage.labels import LabelsError, compact

GRID = TileGrid((20, 20), 10, 4)
TILE = GRID[1]
SHAPE = TILE.read.shape


def run(labels: object) -> np.ndarray:
    return compact(labels, TILE, GRID, "function 'f'").labels


@given(st.integers(0, 2**32 - 1), st.sampled_from(["u1", "i4", "u4", "i8", "u8", "f4", "f8"]), st.booleans())
def test_ids_are_compacted_and_objects_keep_their_voxels(seed: int, dtype: str, sparse: bool) -> None:
    rng = np.random.default_rng(seed)
    ids = np.concatenate([[0], rng.choice(200, 20, replace=False) + 1]).astype(dtype)
    if sparse and np.dtype(dtype).itemsize == 8:
        ids[1:] *= 1_000_003
    full = ids[rng.integers(0, len(ids), SHAPE)]
    found = compact(full, TILE, GRID, "f")
    core = full[TILE.trim]
    kept = np.unique(core[core != 0])
    assert found.labels.dtype == np.uint32
    assert len(found.objects) == len(kept)
    for new, old in enumerate(kept, 1):
        np.testing.assert_array_equal(found.labels == new, core == old)
        assert found.objects["core"][new - 1] == (core == old).sum()
        assert found.objects["read"][new - 1] == (full == old).sum()


def test_objects_cut_by_an_inner_border_of_the_read_box_are_marked() -> None:
    full = np.zeros(SHAPE, int)
    full[0:2, 5:7] = 1  # at the image's own edge: whole
    full[-2:, 5:7] = 2  # at the lower border of the read box, inside the image: cut
    full[6, 6:9] = 3
    found = compact(full, TILE, GRID, "f")
    assert found.objects["cut"].tolist() == [False, False]
    assert (found.typical_size, found.n_whole) == (3.5, 2)
    assert found.objects["read"].tolist() == [4, 3]


def test_an_id_that_lives_in_the_halo_alone_becomes_background_in_the_bands() -> None:
    full = np.zeros(SHAPE, int)
    full[:, :4] = 7  # the halo of a tile in the right half
    full[2:5, 6:9] = 9
    found = compact(full, TILE, GRID, "f")
    assert found.labels.max() == 1
    whole = found.region((slice(None), slice(None)))
    assert set(np.unique(whole)) == {0, 1}
    np.testing.assert_array_equal(whole == 1, full == 9)


def test_a_mask_is_cut_into_components() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[1:3, 6:8] = mask[6:8, 6:8] = True
    assert run(mask).max() == 2


def test_lists_and_whole_floats_are_taken() -> None:
    assert run(np.full(SHAPE, 3.0)).max() == 1
    assert run(np.ones(SHAPE, int).tolist()).max() == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.zeros((3, 3), int),
            r"tile 1 at \[0:10, 10:20\]: function 'f' returned an array of shape \(3, 3\) for pixels ",
        ),
        (np.full(SHAPE, -2), "negative label -2"),
        (np.full(SHAPE, np.nan), "nan among its labels"),
        (np.full(SHAPE, np.inf), "inf among its labels"),
        (np.full(SHAPE, 0.5), "the value 0.5 among its labels.*threshold it"),
        (np.full(SHAPE, 1e300), "whole numbers"),
        (np.full(SHAPE, 1j), "values of type complex128"),
        (np.full(SHAPE, "a"), "values of type <U1"),
        (None, r"shape \(\)"),
    ],
)
def test_anything_else_is_refused_naming_tile_function_and_value(labels: object, message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        run(labels)


def test_ids_beyond_uint32_are_compacted() -> None:
    full = np.zeros(SHAPE, np.uint64)
    full[5:7, 6:9] = 2**63 + 11
    full[8:9, 6:9] = 5
    assert run(full).max() == 2
