"""The geometry: cores partition the image, reads never leave it, bands are what both tiles have seen."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_blockbuster.geometry.tiles import Box, TileGrid, browse_chunk


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    ndim = draw(st.integers(1, 3))
    shape, tile, halo = [], [], []
    for _ in range(ndim):
        n = draw(st.integers(1, 17))
        t = draw(st.integers(1, 9))
        shape.append(n)
        tile.append(t)
        halo.append(draw(st.integers(0, t)))
    separate = draw(st.integers(0, ndim - 1))
    return TileGrid(shape, tile, halo, separate_axes=separate, band_depth=draw(st.integers(0, 9)))


@given(grids())
def test_cores_partition_the_image(grid: TileGrid) -> None:
    covered = np.zeros(grid.shape, int)
    for tile in grid:
        covered[tile.core.slices] += 1
    assert (covered == 1).all()


@given(grids())
def test_reads_hold_the_core_and_its_halo_and_never_leave_the_image(grid: TileGrid) -> None:
    whole = Box((0,) * grid.ndim, grid.shape)
    for tile in grid:
        assert whole.contains(tile.read)
        assert tile.read.contains(tile.core)
        for axis in range(grid.ndim):
            before = tile.core.start[axis] - tile.read.start[axis]
            after = tile.read.stop[axis] - tile.core.stop[axis]
            assert before == min(grid.halo[axis], tile.core.start[axis])
            assert after == min(grid.halo[axis], grid.shape[axis] - tile.core.stop[axis])


@given(grids())
def test_trimming_cuts_exactly_what_the_halo_added(grid: TileGrid) -> None:
    image = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    for tile in grid:
        np.testing.assert_array_equal(image[tile.read.slices][tile.trim], image[tile.core.slices])


@given(grids())
def test_each_pair_of_touching_tiles_is_named_once(grid: TileGrid) -> None:
    named = [(p.low, p.high) for p in grid.all_pairs()]
    assert len(named) == len(set(named))
    expected = set()
    for a, b in itertools.combinations(range(len(grid)), 2):
        steps = [y - x for x, y in zip(grid.position(a), grid.position(b), strict=True)]
        if all(abs(s) <= 1 for s in steps) and not any(steps[: grid.separate_axes]):
            expected.add((a, b))
    assert set(named) == expected
    for index in range(len(grid)):
        assert {(p.low, p.high) for p in grid.pairs(index)} == {pair for pair in expected if index in pair}


@given(grids())
def test_bands_are_what_both_tiles_of_a_face_have_seen(grid: TileGrid) -> None:
    for pair in grid.all_pairs():
        if not pair.is_face:
            continue
        low, high = grid[pair.low], grid[pair.high]
        low_band, high_band = grid.band(low, pair.axis, "low"), grid.band(high, pair.axis, "high")
        assert low_band is not None
        assert high_band is not None
        assert low.read.contains(low_band)
        assert high.read.contains(high_band)
        plane = low.core.stop[pair.axis]
        assert low_band.start[pair.axis] < plane
        assert high_band.stop[pair.axis] > plane
        if grid.depth(pair.axis):
            assert low_band == high_band


@given(grids())
def test_bands_at_the_edge_of_the_image_do_not_exist(grid: TileGrid) -> None:
    for tile in grid:
        for axis in range(grid.ndim):
            offset = [0] * grid.ndim
            offset[axis] = 1
            has_upper = grid.neighbor(tile.index, offset) is not None and axis >= grid.separate_axes
            assert (grid.band(tile, axis, "low") is not None) == has_upper


@given(grids())
def test_order_visits_every_tile_once_and_steps_to_a_face_neighbor(grid: TileGrid) -> None:
    order = grid.order()
    assert sorted(order) == list(range(len(grid)))
    for a, b in itertools.pairwise(order):
        steps = [abs(y - x) for x, y in zip(grid.position(a), grid.position(b), strict=True)]
        assert sum(steps) == 1


@given(grids(), st.data())
def test_tiles_in_a_box_are_those_whose_cores_meet_it(grid: TileGrid, data: st.DataObject) -> None:
    start = tuple(data.draw(st.integers(0, n - 1)) for n in grid.shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, grid.shape, strict=True))
    box = Box(start, stop)
    assert grid.tiles_in(box) == [t.index for t in grid if t.core.intersection(box).size]
    assert grid.tile_at(start).core.contains(Box(start, tuple(x + 1 for x in start)))


@settings(max_examples=20)
@given(grids())
def test_index_and_position_are_inverse(grid: TileGrid) -> None:
    for index in range(len(grid)):
        assert grid.index(grid.position(index)) == index


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((10, 10), (4, 4), 5), "halo is 5 along axis 0, more than the tile size of 4"),
        (((10, 10), (0, 4), 0), "tile size is 0 along axis 0"),
        (((10, 0), 4, 0), "extent along axis 1 is 0"),
        (((10, 10), 4, -1), "halo is -1 along axis 0"),
        (((10, 10), (4, 4, 4), 0), "tile_shape has 3 entries"),
    ],
)
def test_bad_numbers_are_refused_by_name(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TileGrid(*arguments)


def test_a_tile_larger_than_the_image_is_the_image() -> None:
    grid = TileGrid((10, 20), (64, 64), halo=16)
    assert len(grid) == 1
    assert grid.tile_shape == (10, 20)
    assert grid.halo == (0, 0)
    assert grid[0].read == grid[0].core


def test_a_missing_tile_is_an_index_error() -> None:
    grid = TileGrid((10,), 5)
    with pytest.raises(IndexError, match="tile 2 does not exist: the grid has tiles 0 to 1"):
        grid[2]


@given(st.lists(st.integers(1, 600), min_size=1, max_size=3))
def test_inner_chunks_divide_their_shard(tile: list[int]) -> None:
    assert all(n % c == 0 and (c >= 16 or c == n) for n, c in zip(tile, browse_chunk(tile), strict=True))


def test_inner_chunks_of_usual_tiles() -> None:
    assert browse_chunk((128, 256, 256)) == (64, 64, 64)
    assert browse_chunk((1, 2048, 2048)) == (1, 256, 256)
    assert browse_chunk((97, 100, 60)) == (97, 50, 60)
