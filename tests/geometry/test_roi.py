"""Regions of interest: which voxels are inside, and which tiles meet them, against a mask of the whole image."""

from __future__ import annotations

import json
import pickle
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_blockbuster.geometry.roi import Coverage, Roi, tiles_meeting
from napari_blockbuster.geometry.roi.box_part import BoxPart
from napari_blockbuster.geometry.roi.mask_part import MaskPart
from napari_blockbuster.geometry.roi.polygon_part import PolygonPart
from napari_blockbuster.geometry.tiles import Box, TileGrid

Case = tuple[Roi, np.ndarray]
coordinate = st.floats(-4, 24, allow_nan=False).map(lambda x: round(x, 3))


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.integers(1, 20), min_size=2, max_size=3)))


def is_inside(y: float, x: float, rings: list[list[tuple[float, float]]]) -> bool:
    """Even-odd rule, point by point."""
    inside = False
    for ring in rings:
        for (y0, x0), (y1, x1) in zip(ring, [*ring[1:], ring[0]], strict=True):
            if min(y0, y1) <= y < max(y0, y1):
                inside ^= x0 + (y - y0) * ((x1 - x0) / (y1 - y0)) <= x
    return inside


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> Case:
    ends = [sorted(draw(st.tuples(st.integers(-5, n + 5), st.integers(-5, n + 5)))) for n in shape]
    box = Box(*zip(*ends, strict=True))
    whole = np.zeros(shape, bool)
    whole[tuple(slice(max(a, 0), max(b, 0)) for a, b in ends)] = True
    return Roi(shape, (BoxPart(box),)), whole


@st.composite
def masks(draw: st.DrawFn, shape: tuple[int, ...]) -> Case:
    mask_shape = tuple(draw(st.integers(1, 2 * n)) for n in shape)
    mask = np.random.default_rng(draw(st.integers(0, 99))).random(mask_shape) < draw(st.sampled_from([0.1, 0.5, 0.97]))
    step = offset = None
    if draw(st.booleans()):
        step = [draw(st.sampled_from([0.25, 1 / 3, 0.5, 1, 2])) for _ in shape]
        offset = [draw(st.integers(-8, 8)) / 2 for _ in shape]
    whole = np.zeros(shape, bool)
    for voxel in np.ndindex(*shape):
        steps = [m / n for m, n in zip(mask_shape, shape, strict=True)] if step is None else step
        place = [
            int(np.floor((v + 0.5) * s + o)) for v, s, o in zip(voxel, steps, offset or [0] * len(shape), strict=True)
        ]
        if all(0 <= p < m for p, m in zip(place, mask_shape, strict=True)):
            whole[voxel] = mask[tuple(place)]
    return Roi(shape, (MaskPart.of(mask, shape, step, offset),)), whole


@st.composite
def polygons(draw: st.DrawFn, shape: tuple[int, ...]) -> Case:
    ring = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=6)
    found = draw(st.lists(st.lists(ring, min_size=1, max_size=2), min_size=1, max_size=3))
    plane = np.array(
        [
            [any(is_inside(y + 0.5, x + 0.5, rings) for rings in found) for x in range(shape[-1])]
            for y in range(shape[-2])
        ]
    )
    return Roi(shape, (PolygonPart.of(found, shape[-2:]),)), np.broadcast_to(plane, shape)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Roi, np.ndarray, TileGrid]:
    shape = draw(shapes())
    parts = draw(st.lists(st.one_of(boxes(shape), masks(shape), polygons(shape)), min_size=1, max_size=2))
    roi, whole = parts[0]
    for other, more in parts[1:]:
        roi, whole = roi | other, whole | more
    return roi, whole, TileGrid(shape, tuple(draw(st.integers(1, 9)) for _ in shape))


@settings(max_examples=150, deadline=None)
@given(cases(), st.integers(0, 10**6))
def test_voxels_and_tiles_are_those_of_a_mask_of_the_whole_image(case: tuple, seed: int) -> None:
    roi, whole, grid = case
    coverage = roi.coverage(grid)
    for tile in grid:
        here = whole[tile.core.slices]
        np.testing.assert_array_equal(roi.mask(tile.core), here)
        assert (coverage[tile.index] > Coverage.NONE) == here.any()
        # Two parts may cover a tile together. Then it is searched voxel by voxel, which finds the same.
        assert coverage[tile.index] < Coverage.ALL or here.all()
        assert len(roi.parts) > 1 or (coverage[tile.index] == Coverage.ALL) == here.all()
    assert tiles_meeting(roi, grid).tolist() == [t.index for t in grid if whole[t.core.slices].any()]
    voxels = np.random.default_rng(seed).integers(0, grid.shape, (20, grid.ndim))
    np.testing.assert_array_equal(roi.holds(voxels), whole[tuple(voxels.T)])
    assert whole.sum() == whole[roi.bounds().slices].sum()
    again = Roi.of_json(json.loads(json.dumps(roi.to_json())))
    assert again.digest == roi.digest == pickle.loads(pickle.dumps(roi)).digest
    np.testing.assert_array_equal(again.mask(Box((0,) * grid.ndim, grid.shape)), whole)


def test_chosen_tiles_are_their_cores() -> None:
    grid = TileGrid((50, 70), (16, 20), 4)
    roi = Roi(grid.shape, (MaskPart.of_tiles([0, 5, 15], grid),))
    assert tiles_meeting(roi, grid).tolist() == [0, 5, 15]
    assert (roi.coverage(grid)[[0, 5, 15]] == Coverage.ALL).all()


def test_the_tiles_of_a_region_in_a_hundred_thousand_are_found_at_once() -> None:
    grid = TileGrid((10_000, 320_000), (100, 320), 32)
    angles = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    ring = np.stack([5_000 + 600 * np.sin(angles), 100_000 + 16_000 * np.cos(angles)], axis=1)
    mask = np.zeros((1000, 1000), bool)
    mask[490:500, 700:800] = True
    roi = Roi(grid.shape, (PolygonPart.of([[ring]], grid.shape), MaskPart.of(mask, grid.shape)))
    began = time.perf_counter()
    found = tiles_meeting(roi, grid)
    assert len(grid) == 100_000
    assert 900 < len(found) < 1600
    assert time.perf_counter() - began < 2
