"""The table of a merge equals `skimage.measure.regionprops_table` on the whole merged image."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import assemble, merge_store
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import perimeter_crofton, regionprops_table

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.measure.space import Space
from napari_blockbuster.measure.table import object_table
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.stage.seams.evidence import close_seams
from napari_blockbuster.stage.staging import stage_labels
from napari_blockbuster.stage.store import StageStore
from napari_blockbuster.stage.sums.label_sums import CONTACT, TileSums, place_rows, tile_sums
from napari_blockbuster.stage.tables.sum_table import SumTable, SumTableCache

EXACT = ("label", "area", "bbox", "area_bbox", "intensity_min", "intensity_max")
CLOSE = ("centroid", "extent", "equivalent_diameter_area", "intensity_mean", "intensity_std", "centroid_weighted")
AXES = ("axis_major_length", "axis_minor_length")


def staged(folder: Path, grid: TileGrid, labels: np.ndarray, image: np.ndarray) -> StageStore:
    """Stage labels as if each tile had segmented its own part of them."""
    store = StageStore.create(folder, grid)
    for tile in grid:
        core = image[tile.core.slices]
        core = core.reshape(core.shape[grid.separate_axes :])
        part = labels[tile.read.slices]
        staging = stage_labels(store, tile, part.reshape(part.shape[grid.separate_axes :]), pixels=core)
        staging.finish()
        close_seams(store, tile.index, staging.bands)
    return store


def exposed_faces(labels: np.ndarray, axis: int) -> np.ndarray:
    padded = np.pad(np.moveaxis(labels, axis, 0), 1)
    low, high = padded[:-1], padded[1:]
    differ = low != high
    return sum(np.bincount(side[differ], minlength=labels.max() + 1) for side in (low, high))[1:]


@st.composite
def cases(draw: st.DrawFn) -> dict:
    ndim = draw(st.integers(2, 3))
    shape = tuple(draw(st.integers(5, 24 if ndim == 2 else 12)) for _ in range(ndim))
    tile = tuple(draw(st.integers(3, n)) for n in shape)
    halo = draw(st.integers(0, min(tile)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Confluent labels, and gaps between some of them.
    seeds = rng.random(shape) < draw(st.sampled_from([0.02, 0.2]))
    seeds.flat[rng.integers(seeds.size)] = True
    nearest = ndimage.distance_transform_edt(~seeds, return_distances=False, return_indices=True)
    labels = np.zeros(shape, np.int64)
    labels[seeds] = rng.permutation(int(seeds.sum())) + 1
    labels = labels[tuple(nearest)]
    labels[rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5]))] = 0
    kind = draw(st.sampled_from(["uint8", "near the top", "float", "with NaN", "int32"]))
    image = {
        "uint8": lambda: rng.integers(0, 256, shape).astype(np.uint8),
        "near the top": lambda: rng.integers(65520, 65536, shape).astype(np.uint16),
        "float": lambda: rng.normal(1e4, 1, shape).astype(np.float32),
        "with NaN": lambda: np.where(rng.random(shape) < 0.2, np.nan, rng.normal(5, 1, shape)),
        "int32": lambda: rng.integers(-(2**31), 2**31 - 1, shape).astype(np.int32),
    }[kind]()
    rule = draw(st.sampled_from(["touch", "overlap", "face", "none"]))
    decisions = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    return {
        "grid": TileGrid(shape, tile, halo),
        "labels": labels,
        "image": image,
        "rule": rule,
        "decisions": decisions,
        "spacing": draw(st.sampled_from([(1.0,) * ndim, (0.5,) * ndim, (2.0, 0.3, 0.4)[:ndim]])),
        "rng": rng,
    }


def merged_by_hand(store: StageStore, case: dict) -> Merge:
    """Merge with some cuts of joined pairs, and joins of any labels: also of two in one tile."""
    first = merge_store(store, rule=case["rule"])
    n_cuts, n_joins = case["decisions"]
    rng, counts = case["rng"], first.labels_table.counts
    rows = rng.permutation(np.flatnonzero(first.joined))[:n_cuts]
    cut = [tuple((int(s[e]), int(s[f"{e}_id"])) for e in ("low", "high")) for s in first.seams[rows]]
    tiles = np.flatnonzero(counts)
    ends = [[(int(t), int(rng.integers(counts[t])) + 1) for t in rng.choice(tiles, 2)] for _ in range(n_joins)]
    join = [tuple(sorted(pair)) for pair in ends if pair[0] != pair[1]]
    return merge_store(store, rule=case["rule"], cut=cut, join=[pair for pair in join if pair not in cut])


@settings(deadline=None, max_examples=60)
@given(cases())
def test_the_table_equals_regionprops_on_the_merged_image(case: dict) -> None:
    grid, image, spacing = case["grid"], case["image"], case["spacing"]
    ndim = grid.ndim
    if not case["labels"].any():
        return
    with tempfile.TemporaryDirectory() as folder:
        store = staged(Path(folder) / "stage", grid, case["labels"], image)
        merged = merged_by_hand(store, case)
        whole = assemble(store, merged).astype(np.int64)
        space = Space(spacing, (0.0,) * ndim, "um")
        table = object_table(merged, SumTableCache(store).table(store.indices("tiles")), space, channels=[""])
    finite = np.isfinite(image)
    names = [*EXACT, *CLOSE, *AXES]
    expected = regionprops_table(whole, image.astype(np.float64), properties=names)
    for name, values in expected.items():
        ours = table[name].to_numpy()
        if name.startswith(("intensity", "centroid_weighted")) and not finite.all():
            continue
        if name.startswith(EXACT):
            np.testing.assert_array_equal(ours, values, name)
        elif name.startswith(AXES):
            # Square roots of differences: their digits are lost in the length of the longest axis.
            size = table["axis_major_length"].to_numpy()
            np.testing.assert_allclose(ours, values, rtol=1e-9, atol=1e-7 * max(1, size.max()), err_msg=name)
        elif not (name.startswith("centroid_weighted") and image.min() < 0):
            np.testing.assert_allclose(ours, values, rtol=1e-9, atol=1e-9, err_msg=name)
    if not finite.all():
        check_finite_pixels(table, whole, image)
    check_world_and_surface(table, whole, spacing)


def check_finite_pixels(table: object, whole: np.ndarray, image: np.ndarray) -> None:
    for row in table.itertuples(index=False):
        values = image[(whole == row.label) & np.isfinite(image)]
        assert row.intensity_voxels == len(values)
        found = row.intensity_mean, row.intensity_std, row.intensity_min, row.intensity_max
        wanted = (values.mean(), values.std(), values.min(), values.max()) if len(values) else (np.nan,) * 4
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def check_world_and_surface(table: object, whole: np.ndarray, spacing: tuple[float, ...]) -> None:
    ndim = whole.ndim
    world = regionprops_table(whole, spacing=spacing, properties=["area", "centroid", *AXES])
    size = "volume_um3" if ndim == 3 else "area_um2"
    np.testing.assert_allclose(table[size], world["area"], rtol=1e-9)
    for axis in range(ndim):
        np.testing.assert_allclose(table[f"centroid_um-{axis}"], world[f"centroid-{axis}"], rtol=1e-9, atol=1e-9)
    for name in AXES:
        scale = max(1, table["axis_major_length_um"].max())
        np.testing.assert_allclose(table[f"{name}_um"], world[name], rtol=1e-9, atol=1e-7 * scale)
    faces = [exposed_faces(whole, axis) for axis in range(ndim)]
    share, name = (2 / 3, "surface_area") if ndim == 3 else (np.pi / 4, "boundary_length")
    np.testing.assert_allclose(table[name], share * sum(faces), rtol=1e-12)
    areas = [np.prod(spacing) / s for s in spacing]
    in_world = share * sum(f * a for f, a in zip(faces, areas, strict=True))
    np.testing.assert_allclose(table[f"{name}_um{'2' if ndim == 3 else ''}"], in_world, rtol=1e-12)
    if ndim == 2:
        for label, length in zip(table["label"], table[name], strict=True):
            np.testing.assert_allclose(length, perimeter_crofton(whole == label, directions=2), rtol=1e-9)


@pytest.mark.parametrize("shift", [0, 10**5, 10**6])
def test_nothing_is_lost_far_from_the_origin(shift: int) -> None:
    labels = np.zeros((40, 50), np.uint32)
    labels[3:20, 5:31] = 1
    labels[25:28, 2:49] = 2
    sums = tile_sums(labels, 2, (labels * 100).astype(np.uint16))
    grid = TileGrid((shift + 40, shift + 50), (40, 50))
    # The tile whose core begins at the shift, with a grid that has this one tile staged.
    place = TileSums(sums.place, sums.intensity, np.zeros(0, CONTACT))
    counts = np.zeros(len(grid), np.int64) if shift <= 10**5 else None
    if counts is None:
        grid, counts = TileGrid((shift + 40, 50), (40, 50)), np.zeros((shift + 40 + 39) // 40, np.int64)
    position = tuple(n // t for n, t in zip((shift, shift if grid.shape[1] > 50 else 0), (40, 50), strict=True))
    index = grid.index(position)
    counts[index] = 2
    table = SumTable(grid, counts, place, np.zeros(len(grid), np.int64))
    merged = single_tile_merge(counts)
    found = object_table(merged, table)
    start = grid.core(index).start
    expected = regionprops_table(labels.astype(int), properties=["centroid", "bbox", *AXES])
    for name in AXES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)
    for axis in range(2):
        np.testing.assert_allclose(found[f"centroid-{axis}"], expected[f"centroid-{axis}"] + start[axis], rtol=1e-14)
        np.testing.assert_array_equal(found[f"bbox-{axis}"], expected[f"bbox-{axis}"] + start[axis])


def single_tile_merge(counts: np.ndarray) -> Merge:
    from napari_blockbuster.merge.numbering import merge_labels
    from napari_blockbuster.stage.seams.comparison import evidence_dtype
    from napari_blockbuster.stage.tables.label_table import LabelTable

    return merge_labels(np.zeros(0, evidence_dtype(2)), LabelTable.of_counts(counts), rule="none")


@pytest.mark.parametrize("dtype", ["u2", "f8"])
@pytest.mark.parametrize("highest", [1, 4], ids=["long runs", "short runs"])
def test_the_sums_of_one_tile_are_those_of_numpy(dtype: str, highest: int) -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, highest + 1, (4, 7, 41)).astype(np.uint32)
    labels[1, 2:5, 3:38] = highest
    if dtype == "u2":
        image = rng.integers(65500, 65536, (*labels.shape, 2)).astype(np.uint16)
    else:
        image = rng.normal(3e4, 1e-2, (*labels.shape, 2))
        image[0, 0, :3, 1] = np.inf
    sums = tile_sums(labels, highest, image)
    rows = place_rows(3)
    for label in range(1, highest + 1):
        inside = labels == label
        places = np.argwhere(inside)
        np.testing.assert_array_equal(sums.place[rows.low, label - 1], places.min(axis=0))
        np.testing.assert_array_equal(sums.place[rows.high, label - 1], places.max(axis=0))
        np.testing.assert_array_equal(sums.place[rows.first, label - 1], places.sum(axis=0))
        products = [(places[:, i] * places[:, j]).sum() for i, j in zip(*np.triu_indices(3), strict=True)]
        np.testing.assert_array_equal(sums.place[rows.second, label - 1], products)
        around = np.pad(inside, 1).astype(int)
        faces = [np.abs(np.diff(around, axis=axis)).sum() for axis in range(3)]
        np.testing.assert_array_equal(sums.place[rows.faces, label - 1], faces)
        for channel in range(2):
            finite = inside & np.isfinite(image[..., channel])
            values = image[..., channel][finite].astype(float)
            found = sums.intensity[channel, :, label - 1]
            np.testing.assert_allclose(found[:2], [len(values), values.sum()], rtol=1e-12)
            np.testing.assert_allclose(found[2], ((values - values.mean()) ** 2).sum(), rtol=1e-9)
            np.testing.assert_array_equal(found[3:5], [values.min(), values.max()])
            np.testing.assert_allclose(found[5:], values @ np.argwhere(finite), rtol=1e-12)
    expected: Counter[tuple[int, int, int]] = Counter()
    for axis in range(3):
        last = labels.shape[axis] - 1
        below, above = (np.delete(labels, end, axis).ravel().tolist() for end in (last, 0))
        expected.update((min(p), max(p), axis) for p in zip(below, above, strict=True) if p[0] != p[1] and all(p))
    faces_of = [(c, axis, n) for c in sums.contacts for axis, n in enumerate(c["faces"].tolist()) if n]
    assert {(int(c["low"]), int(c["high"]), axis): n for c, axis, n in faces_of} == expected
