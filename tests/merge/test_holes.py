"""Holes filled tile by tile, compared with holes filled in the whole image."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from command_line import mistake, numbers, run
from helpers import assert_same_objects, filtered
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import chunks_of
from scipy import ndimage
from skimage import measure

from napari_blockbuster import Job, segment
from napari_blockbuster.cli.options import MergeOptions
from napari_blockbuster.job.steps.second_try import SecondTry
from napari_blockbuster.machine.errors import JobError
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.merge.selection import apply_filter
from napari_blockbuster.models import as_model
from napari_blockbuster.output.label_image import open_labels
from napari_blockbuster.output.result import StagedMerge
from napari_blockbuster.stage.regions.labeling import regions_of
from napari_blockbuster.stage.regions.store import RegionStore, TileRegions

if TYPE_CHECKING:
    from distributed import Client

FILL = ObjectFilter(fill_holes=True)


def as_painted(tile: np.ndarray) -> np.ndarray:
    """The image contains the object of each voxel."""
    return tile.astype(np.int32)


def unknown(tile: np.ndarray) -> np.ndarray:
    """The same, but fail if the image contains 255."""
    if (tile == 255).any():
        raise ValueError("not today")
    return tile.astype(np.int32)


def whole_fill(labels: np.ndarray, max_size: float = math.inf, unknown: np.ndarray | None = None) -> np.ndarray:
    """Fill the holes of an array in memory, one by one."""
    pieces, n = ndimage.label(labels == 0)
    result = labels.copy()
    for number in range(1, n + 1):
        piece = np.pad(pieces == number, 1)
        around = ndimage.binary_dilation(piece) & ~piece
        # The padding is -1, so background that reaches the edge touches -1.
        owners = np.unique(np.pad(labels.astype(np.int64), 1, constant_values=-1)[around])
        if unknown is not None and np.pad(unknown, 1)[around | piece].any():
            continue
        if len(owners) == 1 and owners[0] > 0 and piece.sum() <= max_size:
            result[pieces == number] = owners[0]
    return result


def whole_filter(labels: np.ndarray, keep: ObjectFilter) -> np.ndarray:
    limit = math.inf if keep.max_hole_size is None else keep.max_hole_size
    return whole_fill(filtered(whole_fill(labels, limit), keep), limit)


def staged(folder: Path, painted: np.ndarray, tile: object, function: Callable = as_painted, **options: object) -> Job:
    job = Job.create(painted, function, folder / "labels.ome.zarr", tile_shape=tile, halo=0, **options)
    list(job.stage())
    return job


def plain(job: Job) -> StagedMerge:
    """Merge labels that have the same number on both sides of a seam."""
    return job.merge("touch")


# ---------------------------------------------------------------------------------------------------- the whole image
@st.composite
def paintings(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...]]:
    """Small images of few objects with many holes, and a tile."""
    ndim = draw(st.sampled_from([2, 3]))
    longest = {2: 16, 3: 8}[ndim]
    shape = draw(st.tuples(*[st.integers(3, longest)] * ndim))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    painted = rng.integers(1, draw(st.integers(2, 5)), shape).astype(np.uint8)
    if draw(st.booleans()):
        # Enlarge, so that objects and holes span several voxels and tiles.
        painted = np.kron(painted, np.ones((2,) * ndim, np.uint8))[tuple(slice(0, n) for n in shape)]
    painted[rng.random(shape) < draw(st.floats(0.05, 0.4))] = 0
    return painted, draw(st.tuples(*[st.integers(max(2, n // 3), n) for n in shape]))


@settings(max_examples=40)
@given(
    painting=paintings(),
    low=st.none() | st.integers(0, 30),
    border=st.booleans(),
    largest_hole=st.none() | st.integers(0, 6),
)
def test_equals_the_whole_image(
    tmp_path_factory: pytest.TempPathFactory,
    painting: tuple[np.ndarray, tuple[int, ...]],
    low: int | None,
    border: bool,
    largest_hole: int | None,
) -> None:
    painted, tile = painting
    job = staged(tmp_path_factory.mktemp("holes"), painted, tile)
    keep = ObjectFilter(low, None, border, True, largest_hole)
    merged = plain(job)
    before = merged.labels.compute()
    found = job.filtered(merged, keep)
    expected = whole_filter(before, keep)
    np.testing.assert_array_equal(merged.labels.compute(), before)
    assert_same_objects(found.labels.compute(), expected)
    assert found.n_objects == len(np.unique(expected[expected > 0]))
    assert found.n_objects + found.n_removed == merged.n_objects
    result = job.write(found, keep_stage=True)
    np.testing.assert_array_equal(result.labels.compute(), found.labels.compute())
    assert result.n_objects == found.n_objects


# --------------------------------------------------------------------------------------------------------- known shapes
def ring(shape: tuple[int, int], centre: tuple[float, float], outer: float, inner: float) -> np.ndarray:
    distance = np.hypot(*(x - c for x, c in zip(np.indices(shape), centre, strict=True)))
    return (distance <= outer) & (distance > inner)


@pytest.mark.parametrize("tile", [10, 7, (40, 3), 40])
def test_a_ring_across_tiles(tmp_path: Path, tile: object) -> None:
    """The hole contains whole tiles without labels."""
    painted = ring((40, 40), (19.5, 19.5), 18, 16).astype(np.uint8)
    job = staged(tmp_path, painted, tile)
    merged = job.filtered(plain(job), FILL)
    disc = ring((40, 40), (19.5, 19.5), 18, -1)
    np.testing.assert_array_equal(merged.labels.compute(), disc)
    assert merged.filled is not None
    assert (merged.n_objects, merged.filled.n_holes) == (1, 1)
    result = job.write(merged)
    np.testing.assert_array_equal(result.labels.compute(), disc)
    assert result.provenance["merge"]["filter"] == {"fill_holes": True}
    assert result.provenance["merge"]["holes_filled"] == 1


def test_a_torus_has_no_hole_but_a_shell_has(tmp_path: Path) -> None:
    z, y, x = np.indices((16, 40, 40)) - np.array([7.5, 19.5, 19.5]).reshape(3, 1, 1, 1)
    away = np.hypot(np.hypot(y, x) - 12, z)
    full, hollow = away <= 5, away <= 2
    job = staged(tmp_path, (full & ~hollow).astype(np.uint8), (9, 15, 11))
    merged = job.filtered(plain(job), FILL)
    # The inside of the tube is a hole; the middle of the torus is not.
    np.testing.assert_array_equal(merged.labels.compute(), full)
    assert merged.filled is not None
    assert merged.filled.n_holes == 1


def test_what_lies_around_an_island_belongs_to_nobody(tmp_path: Path) -> None:
    painted = ring((40, 40), (19.5, 19.5), 18, 14).astype(np.uint8)
    island = ring((40, 40), (19.5, 19.5), 8, 4)
    painted[island] = 2
    job = staged(tmp_path, painted, 13)
    merged = job.filtered(plain(job), FILL)
    expected = painted.copy()
    expected[ring((40, 40), (19.5, 19.5), 8, -1)] = 2
    assert_same_objects(merged.labels.compute(), expected)
    assert merged.n_objects == 2


def test_a_speck_that_is_left_out_is_no_island(tmp_path: Path) -> None:
    """Sizes include holes, and a removed object in a hole is background."""
    painted = ring((40, 40), (19.5, 19.5), 18, 14).astype(np.uint8)
    painted[18:21, 18:21] = 2
    painted[19, 19] = 0
    job = staged(tmp_path, painted, 13)
    merged = plain(job)
    kept = job.filtered(merged, ObjectFilter(min_size=9, fill_holes=True))
    assert kept.n_objects == 2
    assert (kept.labels.compute() > 0).sum() == (painted > 0).sum() + 1
    whole = job.filtered(merged, ObjectFilter(min_size=10, fill_holes=True))
    np.testing.assert_array_equal(whole.labels.compute(), ring((40, 40), (19.5, 19.5), 18, -1))
    assert (whole.n_objects, whole.n_removed) == (1, 1)


def test_the_largest_hole_that_is_filled(tmp_path: Path) -> None:
    painted = np.ones((20, 40), np.uint8)
    painted[0] = 0
    painted[5:8, 8:12] = painted[10:14, 20:24] = 0
    job = staged(tmp_path, painted, 10)
    merged = plain(job)
    for largest, background in ((11, 40 + 12 + 16), (12, 40 + 16), (16, 40), (None, 40)):
        filled = job.filtered(merged, ObjectFilter(fill_holes=True, max_hole_size=largest))
        assert (filled.labels.compute() == 0).sum() == background


def test_frames_are_looked_at_apart(tmp_path: Path) -> None:
    movie = np.zeros((3, 20, 20), np.uint8)
    movie[:, 5:15, 5:15] = 1
    movie[1, 8:12, 8:12] = movie[2, 9:11, 9:18] = 0
    job = staged(tmp_path, movie, 8, axes="tyx")
    expected = movie.copy()
    expected[1, 8:12, 8:12] = 1
    np.testing.assert_array_equal(job.filtered(plain(job), FILL).labels.compute() > 0, expected > 0)


# ------------------------------------------------------------------------------------------------------- regions alone
@pytest.mark.parametrize("shape", [(300_000,), (700, 500), (90, 70, 60), (2, 600, 550)])
def test_regions_of_a_large_tile(shape: tuple[int, ...]) -> None:
    """Several slabs, and labels in several parts: the same regions as in scikit-image, with all contacts."""
    rng = np.random.default_rng(5)
    field = ndimage.gaussian_filter(rng.standard_normal(shape), 2)
    labels = (np.digitize(field, np.quantile(field, [0.3, 0.6, 0.8, 0.95])) % 4).astype(np.uint32)
    regions, found = regions_of(labels, 3, 7)
    expected = measure.label(labels, background=-1, connectivity=1)
    pairs = np.unique(np.stack([regions.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == expected.max() == len(found.sizes) > 100
    np.testing.assert_array_equal(np.unique(regions), np.arange(1, len(found.sizes) + 1))
    np.testing.assert_array_equal(np.concatenate([[0, 1, 2, 3], found.parents])[regions], labels)
    np.testing.assert_array_equal(found.sizes, np.bincount(regions.ravel())[1:])
    contacts: set[tuple[int, int]] = set()
    for axis in range(regions.ndim):
        low, high = (
            np.take(regions, range(start, stop), axis) for start, stop in ((0, shape[axis] - 1), (1, shape[axis]))
        )
        contacts |= set(
            zip(np.minimum(low, high)[low != high].tolist(), np.maximum(low, high)[low != high].tolist(), strict=True)
        )
        for side, place in enumerate((0, -1)):
            reached = np.flatnonzero(found.faces & (1 << (2 * axis + side))) + 1
            np.testing.assert_array_equal(reached, np.unique(regions.take(place, axis)))
    assert set(map(tuple, found.touching.tolist())) == contacts
    np.testing.assert_array_equal(TileRegions.unpacked(found.packed()).touching, found.touching)


# ------------------------------------------------------------------------------------------------------ what is unknown
def test_a_hole_beside_a_failed_tile_is_unknown(tmp_path: Path) -> None:
    painted = np.kron(np.ones((3, 3), np.uint8), np.pad(np.zeros((8, 8), np.uint8), 1, constant_values=1))
    # One hole in each tile. The middle one reaches the tile on its right, which fails.
    painted[14:16, 18:22] = 0
    holes = painted == 0
    painted[15, 25] = 255
    job = staged(tmp_path, painted, 10, unknown)
    assert list(job.failed()) == [5]
    merged = job.filtered(plain(job), FILL)
    found = merged.labels.compute() > 0
    expected = np.ones((30, 30), bool)
    expected[10:20, 20:] = False
    expected[10:20, 10:20] = ~holes[10:20, 10:20]
    np.testing.assert_array_equal(found, expected)


def test_tiles_that_are_staged_later_close_a_hole(tmp_path: Path) -> None:
    painted = ring((40, 40), (19.5, 19.5), 18, 8).astype(np.uint8)
    job = Job.create(painted, as_painted, tmp_path / "labels.ome.zarr", tile_shape=20, halo=0)
    list(job.stage(tiles=[0, 1, 2]))
    early = plain(job)
    some = job.filtered(early, FILL)
    assert some.filled is not None
    assert some.filled.n_holes == 0
    list(job.stage())
    with pytest.raises(ValueError, match="staged after this merge"):
        job.filtered(early, FILL)
    np.testing.assert_array_equal(job.filtered(plain(job), FILL).labels.compute(), ring((40, 40), (19.5, 19.5), 18, -1))


def test_tiles_that_are_staged_again_are_looked_at_again(tmp_path: Path) -> None:
    painted = ring((40, 40), (19.5, 19.5), 18, 8).astype(np.uint8)
    job = staged(tmp_path, painted, 20)
    disc = ring((40, 40), (19.5, 19.5), 18, -1)
    np.testing.assert_array_equal(job.filtered(plain(job), FILL).labels.compute(), disc)
    second = SecondTry(job)
    list(second.stage([3], as_model(cut_open)))
    second.accept([3])
    opened = painted.copy()
    opened[20:, 20:] = cut_open(painted[20:, 20:])
    for same in (job, Job.open(job.folder)):
        np.testing.assert_array_equal(same.filtered(plain(same), FILL).labels.compute(), opened)
    second.go_back([3])
    for same in (job, Job.open(job.folder)):
        np.testing.assert_array_equal(same.filtered(plain(same), FILL).labels.compute(), disc)


def cut_open(tile: np.ndarray) -> np.ndarray:
    """A segmentation with a gap in the ring."""
    labels = tile.astype(np.int32)
    labels[: len(tile) // 4] = 0
    return labels


# -------------------------------------------------------------------------------------------------------- how it is run
def holey(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.2)
    return ndimage.label(np.abs(field) > 0.05)[0].astype(np.uint16)


def test_a_cluster_gives_the_same_bytes(tmp_path: Path, client: Client) -> None:
    painted = holey((20, 30, 26))
    jobs = []
    for name, workers in (("here", None), ("cluster", client)):
        job = Job.create(painted, as_painted, tmp_path / f"{name}.ome.zarr", tile_shape=(7, 11, 9), halo=0)
        list(job.stage(workers))
        merged = job.merge("touch", filter=FILL, client=workers)
        assert merged.filled is not None
        assert merged.filled.n_holes > 5
        jobs.append((job, merged, job.write(merged, workers, keep_stage=True)))
    (here, first, one), (there, second, other) = jobs
    assert chunks_of(one.path) == chunks_of(other.path)
    np.testing.assert_array_equal(first.filled.new_ids, second.filled.new_ids)
    found = [
        {
            path.relative_to(job.store.folder): path.read_bytes()
            for path in sorted(job.store.folder.rglob("regions/c/**/*"))
            if path.is_file()
        }
        for job in (here, there)
    ]
    assert found[0] == found[1] != {}
    expected = whole_fill(here.merge("touch").labels.compute())
    assert_same_objects(one.labels.compute(), expected)


def test_merging_anew_reads_no_tile_and_touches_no_stage(tmp_path: Path) -> None:
    painted = holey((30, 40))
    job = staged(tmp_path, painted, 11)
    before = {path: path.read_bytes() for path in job.store.folder.rglob("*") if path.is_file()}
    asked: list[int] = []
    filled = job.filtered(job.merge("touch"), FILL, lambda: asked.append(1))
    assert asked == [1], "a cluster is asked for once"
    after = {path: path.read_bytes() for path in job.store.folder.rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if path in before} == before
    # Regions on disk serve other rules, other sizes, and a job that is opened again.
    made = {path: path.stat().st_mtime_ns for path in (job.store.folder / "regions").rglob("*") if path.is_file()}
    again = Job.open(job.folder)
    for rule in ("touch", "none"):
        merged = again.merge(rule)
        expected = whole_fill(merged.labels.compute())
        found = again.filtered(merged, FILL, lambda: pytest.fail("no tile is read, so that no cluster is needed"))
        assert_same_objects(found.labels.compute(), expected)
    np.testing.assert_array_equal(again.merge("touch", filter=FILL).labels.compute(), filled.labels.compute())
    assert made == {p: p.stat().st_mtime_ns for p in (job.store.folder / "regions").rglob("*") if p.is_file()}
    # Without the filter, the holes are back.
    np.testing.assert_array_equal(job.merge("touch").labels.compute() > 0, painted > 0)


def test_without_it_nothing_is_made(tmp_path: Path) -> None:
    job = staged(tmp_path, holey((30, 40)), 11)
    result = job.write(job.merge("touch", filter=ObjectFilter(min_size=3)), keep_stage=True)
    assert not (job.store.folder / "regions").exists()
    assert "holes_filled" not in result.provenance["merge"]


@pytest.mark.parametrize("kind", ["tiles", "faces", "chunk", "cut"])
def test_what_is_damaged_or_lost_is_found_anew(tmp_path: Path, kind: str) -> None:
    job = staged(tmp_path, holey((30, 40)), 11)
    expected = job.merge("touch", filter=FILL).labels.compute()
    folder = job.store.folder / "regions"
    if kind == "chunk":
        (folder / "arrays" / "regions" / "c" / "1" / "1").unlink()
    elif kind == "cut":
        path = folder / "tiles" / "0-999" / "4.npy"
        path.write_bytes(path.read_bytes()[:-4])
    else:
        path = folder / kind / "0-999" / "4.npy"
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
    np.testing.assert_array_equal(Job.open(job.folder).merge("touch", filter=FILL).labels.compute(), expected)


@pytest.mark.parametrize("kind", ["bytes", "voxels"])
def test_the_check_finds_damaged_voxels(tmp_path: Path, kind: str) -> None:
    """Regions have no second copy to compare with before labels are written."""
    job = staged(tmp_path, holey((30, 40)), 11)
    merged = job.merge("touch", filter=FILL)
    expected = merged.labels.compute()
    assert job.check().sound
    regions = RegionStore(job.store)
    if kind == "bytes":
        path = job.store.folder / "regions" / "arrays" / "regions" / "c" / "1" / "1"
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(JobError, match="--check --repair"):
            job.write(merged)
    else:
        regions.array[11:22, 11:22].write(np.roll(regions.read(job.grid[5]).result(), 1, axis=0)).result()
    assert job.check().regions == [5]
    assert job.check(repair=True).repaired
    assert job.check().sound
    np.testing.assert_array_equal(job.merge("touch", filter=FILL).labels.compute(), expected)


def test_it_stops_when_told_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = staged(tmp_path, holey((30, 40)), 11)
    from napari_blockbuster.merge.holes import region_search

    done: list[int] = []

    class Stopping(region_search.RegionWork):
        def __call__(self, item: int, payload: object) -> Callable[[], int]:
            done.append(item)
            if len(done) == 3:
                job.cancel()
            return super().__call__(item, payload)

    monkeypatch.setattr(region_search, "RegionWork", Stopping)
    with pytest.raises(JobError, match="canceled"):
        job.merge("touch", filter=FILL)
    assert 3 <= len(done) < job.n_tiles
    before = len(done)
    merged = job.merge("touch", filter=FILL)
    assert len(done) < before + job.n_tiles
    assert_same_objects(merged.labels.compute(), whole_fill(job.merge("touch").labels.compute()))


def test_segment_fills(tmp_path: Path) -> None:
    painted = ring((40, 40), (19.5, 19.5), 18, 8).astype(np.uint8)
    result = segment(
        painted, as_painted, tmp_path / "l.ome.zarr", tile_shape=13, halo=0, merge="touch", filter=FILL, progress=False
    )
    np.testing.assert_array_equal(result.labels.compute(), ring((40, 40), (19.5, 19.5), 18, -1))
    assert not list((tmp_path / "l.ome.zarr.job").glob("stage*"))


# ---------------------------------------------------------------------------------------------------- the command line
def test_on_the_command_line(tmp_path: Path) -> None:
    """segment, merge and resume have the options, and the advice after an interruption includes them."""
    away = np.hypot(*(np.indices((60, 60)) - 29.5))
    image = (((away > 14) & (away <= 25)) | (away <= 5)).astype(np.uint8) * 200
    image[29:31, 29:31] = 0
    tifffile.imwrite(tmp_path / "ring.tif", image)
    labels, touch = tmp_path / "labels.ome.zarr", ["--rule", "touch"]
    words = ["--model", "threshold", "--set", "threshold=100", "sigma=0", "--tile", 17, "-o", labels, *touch]
    report = numbers(
        run("segment", tmp_path / "ring.tif", *words, "--fill-holes", "--keep-stage", "--workers", 2).stdout
    )
    assert report["holes"] == "1 filled"
    assert report["objects"] == "2"

    def shown() -> np.ndarray:
        return open_labels(labels).compute() > 0

    np.testing.assert_array_equal(shown(), (image > 0) | (away <= 5))
    again = ["merge", labels, *touch, "--overwrite"]
    assert "holes" not in numbers(run(*again).stdout)
    np.testing.assert_array_equal(shown(), image > 0)
    report = numbers(run(*again, "--fill-holes", "--min-size", 200).stdout)
    assert report["left out"].startswith("1 objects")
    np.testing.assert_array_equal(shown(), away <= 25)
    assert numbers(run(*again, "--fill-holes", "--max-hole-size", 3).stdout)["holes"] == "0 filled"
    job = Job.open(labels)
    job.store.unstage([5])
    report = numbers(run("resume", labels, *touch, "--fill-holes", "--overwrite", "--workers", 0).stdout)
    assert (report["tiles"], report["holes"]) == ("16 of 16", "1 filled")
    assert "Add fill_holes=True (--fill-holes)" in mistake("merge", labels, "--max-hole-size", 3)
    advice = MergeOptions(fill_holes=True, max_hole_size=4).options()
    assert advice == ["--fill-holes", "--max-hole-size", "4"]


# ------------------------------------------------------------------------------------------------------------ refusals
def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_hole_size is 5, but holes are not filled"):
        ObjectFilter(max_hole_size=5)
    with pytest.raises(ValueError, match="max_hole_size is -1"):
        ObjectFilter(fill_holes=True, max_hole_size=-1)
    job = staged(tmp_path, holey((20, 20)), 11)
    merged = plain(job)
    with pytest.raises(ValueError, match=r"Job\.filtered"):
        apply_filter(merged, FILL)
    with pytest.raises(ValueError, match="already has its holes filled"):
        job.filtered(job.filtered(merged, FILL), ObjectFilter(min_size=2))


def test_holes_in_micrometres() -> None:
    keep = ObjectFilter.of_volumes(2.0, 4.0, (0.1, 1.0, 1.0), fill_holes=True, largest_hole=1.05)
    assert keep == ObjectFilter(20, 40, False, True, 10)
