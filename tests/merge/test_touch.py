"""The rule ``touch`` is exact: stage → merge equals `scipy.ndimage.label` of the whole image."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers import assemble, assert_same_objects, merge_store, stage_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_blockbuster.geometry.tiles import TileGrid


@st.composite
def cases(draw: st.DrawFn) -> tuple[TileGrid, np.ndarray, int]:
    ndim = draw(st.integers(1, 3))
    longest = {1: 40, 2: 18, 3: 9}[ndim]
    shape = tuple(draw(st.integers(1, longest)) for _ in range(ndim))
    tile = tuple(draw(st.integers(1, max(1, n))) for n in shape)
    # At most a few dozen tiles, because each writes files.
    tile = tuple(max(t, -(-n // 4)) for t, n in zip(tile, shape, strict=True))
    halo = tuple(draw(st.integers(0, min(t, 4))) for t in tile)
    grid = TileGrid(shape, tile, halo, band_depth=draw(st.integers(0, 5)))
    density = draw(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.8, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return grid, rng.random(shape) < density, draw(st.integers(1, ndim))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases(), st.randoms(use_true_random=False))
def test_touch_is_connected_components_of_the_whole(case: tuple[TileGrid, np.ndarray, int], random) -> None:
    grid, mask, connectivity = case
    structure = ndimage.generate_binary_structure(mask.ndim, connectivity)
    order = list(range(len(grid)))
    random.shuffle(order)
    with tempfile.TemporaryDirectory() as folder:
        store = stage_all(Path(folder) / "stage", grid, mask, lambda x: ndimage.label(x, structure)[0], order)
        merged = merge_store(store, rule="touch", connectivity=connectivity)
        whole, n = ndimage.label(mask, structure)
        assert merged.n_objects == n
        assert_same_objects(assemble(store, merged), whole)


@pytest.mark.parametrize("connectivity", [1, 2, 3])
def test_contacts_that_meet_only_at_a_tile_edge_or_corner(tmp_path: Path, connectivity: int) -> None:
    """Two voxels in diagonal tiles, one at each side of the point where eight tiles meet."""
    mask = np.zeros((8, 8, 8), bool)
    mask[3, 3, 3] = mask[4, 4, 4] = True  # a corner
    mask[3, 0, 3] = mask[4, 0, 4] = True  # an edge along axis 1
    structure = ndimage.generate_binary_structure(3, connectivity)
    store = stage_all(tmp_path / "s", TileGrid(mask.shape, 4, 2), mask, lambda x: ndimage.label(x, structure)[0])
    merged = merge_store(store, rule="touch", connectivity=connectivity)
    assert merged.n_objects == ndimage.label(mask, structure)[1] == {1: 4, 2: 3, 3: 2}[connectivity]


def test_a_last_tile_thinner_than_the_halo(tmp_path: Path) -> None:
    """The last tile is thinner than the halo: 3 columns and 8."""
    rng = np.random.default_rng(1)
    mask = rng.random((43, 43)) < 0.55
    store = stage_all(tmp_path / "s", TileGrid(mask.shape, 20, 8), mask, lambda x: ndimage.label(x)[0])
    merged = merge_store(store, rule="touch")
    assert_same_objects(assemble(store, merged), ndimage.label(mask)[0])


def test_no_objects_and_a_single_tile_are_ordinary(tmp_path: Path) -> None:
    empty = np.zeros((20, 20), bool)
    store = stage_all(tmp_path / "a", TileGrid(empty.shape, 8, 2), empty, lambda x: ndimage.label(x)[0])
    for rule in ("overlap", "face", "touch", "none"):
        merged = merge_store(store, rule=rule)
        assert merged.n_objects == 0
        assert not assemble(store, merged).any()
    store = stage_all(tmp_path / "b", TileGrid((20, 20), 20), ~empty, lambda x: ndimage.label(x)[0])
    assert merge_store(store).n_objects == 1


def test_time_points_are_never_joined(tmp_path: Path) -> None:
    mask = np.ones((3, 10, 10), bool)
    grid = TileGrid(mask.shape, (1, 5, 5), (0, 2, 2), separate_axes=1)
    store = stage_all(tmp_path / "s", grid, mask, lambda x: ndimage.label(x)[0])
    merged = merge_store(store, rule="touch")
    assert merged.n_objects == 3
    assert [np.unique(plane).tolist() for plane in assemble(store, merged)] == [[1], [2], [3]]
