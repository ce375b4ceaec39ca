"""A region of interest: inside it, a run gives what a run of the whole image gives, and nothing else runs."""

from __future__ import annotations

import functools
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import HALO, N_TILES, SHAPE, TILE, Counting, components, write_image
from skimage.measure import regionprops_table

from napari_blockbuster import Job, segment
from napari_blockbuster.geometry.roi import Roi
from napari_blockbuster.geometry.tiles import Box, TileGrid
from napari_blockbuster.images import StoredSource, open_image
from napari_blockbuster.images.content.emptiness import empty_tiles
from napari_blockbuster.machine.errors import JobError, JobMismatchError
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.output.result import StagedMerge
from napari_blockbuster.stage.tables.sum_table import NoSumsError

WHOLE = Box((0, 0, 0), SHAPE)
TILINGS = {TILE: HALO, (22, 10, 7): 2, (11, 30, 5): 0}
OPTIONS: dict = {"tile_shape": TILE, "halo": HALO}
QUIET: dict = {"progress": False, "merge": "touch"}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image(tmp_path_factory.mktemp("where") / "image.zarr")


@pytest.fixture(scope="module")
def whole(image: Path) -> functools._lru_cache_wrapper:
    """Merged labels of the whole image, and its job, for each tiling and rule."""

    @functools.cache
    def staged(tile: tuple[int, ...]) -> Job:
        job = Job.create(
            image, components, image.with_name(f"whole-{tile[0]}.zarr"), tile_shape=tile, halo=TILINGS[tile]
        )
        list(job.stage())
        return job

    @functools.cache
    def run(tile: tuple[int, ...], rule: str) -> np.ndarray:
        return np.asarray(staged(tile).merge(rule).labels)

    return run


def expected(labels: np.ndarray, inside: np.ndarray, rule: str) -> np.ndarray:
    """The objects that a rule keeps, from the labels of the whole image."""
    from scipy import ndimage

    ids = np.arange(1, labels.max() + 1)
    if rule == "centroid":
        centers = np.floor(np.array(ndimage.center_of_mass(labels > 0, labels, ids)) + 0.5).astype(int)
        kept = inside[tuple(centers.T)]
    else:
        kept = ndimage.maximum(inside, labels, ids).astype(bool)
    result = np.where(np.concatenate([[False], kept])[labels], labels, 0)
    return np.where(inside, result, 0) if rule == "clip" else result


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(sorted(TILINGS)),
    st.sampled_from(["touch", "face", "none"]),
    st.sampled_from(["centroid", "touching", "clip"]),
    st.tuples(*(st.integers(1, n) for n in SHAPE)),
    st.integers(0, 99),
    st.sampled_from([0.05, 0.2, 0.7]),
)
def test_inside_a_mask_objects_are_those_of_the_whole_image(
    image: Path,
    whole: functools._lru_cache_wrapper,
    tmp_path_factory: pytest.TempPathFactory,
    tile: tuple[int, ...],
    merge: str,
    inside: str,
    mask_shape: tuple[int, ...],
    seed: int,
    share: float,
) -> None:
    mask_shape = (*mask_shape[:2], max(1, round(mask_shape[1] * SHAPE[2] / SHAPE[1])))
    mask = np.random.default_rng(seed).random(mask_shape) < share
    mask.flat[seed % mask.size] = True
    folder = tmp_path_factory.mktemp("part")
    model = Counting(folder / "calls")
    job = Job.create(image, model, folder / "part.zarr", tile_shape=tile, halo=TILINGS[tile], where=mask, inside=inside)
    events = list(job.stage())
    assert job.where.roi is not None
    in_region = job.where.roi.mask(WHOLE)
    chosen = [t.index for t in job.grid if in_region[t.core.slices].any()]
    assert sorted(event.tile.index for event in events) == sorted(job.staged()) == chosen
    assert model.calls == len(chosen) == job.n_chosen
    assert [event.total for event in events] == [len(chosen)] * len(chosen)

    assert_as_in_the_whole(job, job.merge(merge), whole(tile, merge), inside)


def assert_as_in_the_whole(job: Job, merged: StagedMerge, full: np.ndarray, inside: str) -> int:
    """Compare the labels and the table of a run in a region with the labels of the whole image. Return the objects compared."""
    assert job.where.roi is not None
    labels, in_region = np.asarray(merged.labels), job.where.roi.mask(Box((0,) * full.ndim, full.shape))
    skipped = np.ones(full.shape, bool)
    for index in job.staged():
        skipped[job.grid.core(index).slices] = False
    # Of an object that reaches into a skipped tile, only a part is known.
    complete = ~np.isin(full, np.unique(full[skipped]))
    wanted = np.where(complete, expected(full, in_region, inside), 0)
    assert not labels[skipped].any()
    np.testing.assert_array_equal(labels[complete] > 0, wanted[complete] > 0)
    pairs = np.unique(np.stack([labels[wanted > 0], wanted[wanted > 0]]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    assert not (labels[~in_region].any() and inside == "clip")
    if inside != "clip":
        # Each object in the labels has a row, and nothing else has one.
        table, sizes = job.table(merged), np.bincount(labels.ravel())[1:]
        np.testing.assert_array_equal(table["label"], np.arange(1, len(sizes) + 1))
        np.testing.assert_array_equal(table["area"], sizes)
    return pairs.shape[1]


CROWDED = {(80, 80): 20, (60, 120): 15}
"""Tilings of an image whose tiles hold ten whole objects and more."""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, dict[tuple[int, int], np.ndarray]]:
    """An image of many objects, and its merged labels by the rule `overlap` for each tiling."""
    from scipy import ndimage

    field = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal((240, 240)), 2.5)
    pixels, folder = ((field > 0.05) * 200).astype(np.uint8), tmp_path_factory.mktemp("crowded")
    found = {}
    for tile, halo in CROWDED.items():
        job = Job.create(pixels, components, folder / f"{tile[0]}.zarr", tile_shape=tile, halo=halo)
        list(job.stage())
        found[tile] = np.asarray(job.merge("overlap").labels)
    return pixels, found


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(sorted(CROWDED)),
    st.sampled_from(["centroid", "touching", "clip"]),
    st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, 11), st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=3
    ),
)
def test_the_rule_overlap_gives_the_same_where_tiles_hold_enough_objects(
    crowded: tuple[np.ndarray, dict[tuple[int, int], np.ndarray]],
    tmp_path_factory: pytest.TempPathFactory,
    tile: tuple[int, int],
    inside: str,
    blocks: list[tuple[int, int, int, int]],
) -> None:
    """The rule takes the typical size of a tile from the tile itself once it holds ten whole objects."""
    pixels, whole = crowded
    mask = np.zeros((12, 12), bool)
    for y, x, height, width in blocks:
        mask[y : y + height, x : x + width] = True
    output = tmp_path_factory.mktemp("part") / "part.zarr"
    job = Job.create(pixels, components, output, tile_shape=tile, halo=CROWDED[tile], where=mask, inside=inside)
    list(job.stage())
    found = assert_as_in_the_whole(job, job.merge("overlap"), whole[tile], inside)
    if mask.sum() > 60 and inside != "clip":
        assert found > 10


# ------------------------------------------------------------------------------------------------------- what users say
SQUARE = [[4.2, 3.1], [20.4, 3.1], [20.4, 17.6], [4.2, 17.6], [4.2, 3.1]]
"""x and y."""


def square_mask() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[:, 3:18, 4:20] = True
    return mask


def roi_of(image: Path, where: object, tmp_path: Path, **options: object) -> Roi:
    job = Job.create(image, components, tmp_path / "labels.zarr", where=where, **OPTIONS, **options)
    assert job.where.roi is not None
    return job.where.roi


def test_geojson_of_qupath_is_read_as_a_file_and_as_a_dict(image: Path, tmp_path: Path) -> None:
    hole = [[8, 8], [12, 8], [12, 12], [8, 12], [8, 8]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [SQUARE, hole]}, "properties": {}}
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}, "properties": {}}
    said = {"type": "FeatureCollection", "features": [feature, point]}
    path = tmp_path / "regions.geojson"
    path.write_text(json.dumps(said))
    wanted = square_mask()
    wanted[:, 8:12, 8:12] = False
    for where in (said, path, str(path)):
        np.testing.assert_array_equal(roi_of(image, where, tmp_path).mask(WHOLE), wanted)


def test_masks_of_files_and_arrays_of_any_resolution_are_read(image: Path, tmp_path: Path) -> None:
    mask = np.zeros((11, 15, 13), np.uint16)
    mask[2:6, 4:9, 3:7] = 7
    wanted = np.zeros(SHAPE, bool)
    wanted[4:12, 8:18, 6:14] = True
    tifffile.imwrite(tmp_path / "mask.tif", mask, metadata={"axes": "ZYX"})
    stored = zarr.create_array(str(tmp_path / "mask.zarr"), data=mask, chunks=(4, 4, 4))
    for where in (mask, stored, tmp_path / "mask.tif", str(tmp_path / "mask.zarr")):
        np.testing.assert_array_equal(roi_of(image, where, tmp_path).mask(WHOLE), wanted)
    # A plane holds in all planes.
    np.testing.assert_array_equal(roi_of(image, mask[2], tmp_path).mask(WHOLE), np.broadcast_to(wanted[4], SHAPE))


def test_a_mask_with_sizes_and_an_offset_is_placed_by_them(tmp_path: Path) -> None:
    from napari_blockbuster.output.ngff import attributes, plan_levels

    def write(path: Path, pixels: np.ndarray, scale: float, translation: float) -> Path:
        levels = plan_levels(pixels.shape, (scale, scale), 0, 1)
        said = attributes(
            levels,
            version="0.5",
            axes=("y", "x"),
            scale=(scale, scale),
            units=("micrometer", "micrometer"),
            translation=(translation, translation),
            name="image",
            source_image=None,
        )
        said["ome"].pop("image-label", None)
        group = zarr.create_group(str(path), zarr_format=3, attributes=said)
        group.create_array("0", data=pixels, chunks=(16, 16), dimension_names=["y", "x"])
        return path

    image = write(tmp_path / "image.ome.zarr", np.zeros((64, 64), np.uint8), 0.5, 100.0)
    # Voxels of 2 um whose outer edge lies 8 um into the image, which begins at 99.75 um.
    mask = write(tmp_path / "mask.ome.zarr", np.ones((3, 4), np.uint8), 2.0, 108.75)
    wanted = np.zeros((64, 64), bool)
    wanted[16:28, 16:32] = True
    job = Job.create(image, components, tmp_path / "labels.zarr", tile_shape=16, halo=2, where=mask)
    assert job.where.roi is not None
    np.testing.assert_array_equal(job.where.roi.mask(Box((0, 0), (64, 64))), wanted)
    for box in ("108um:114um,108um:116um", "108000nm:114um,0.108:0.116mm"):
        job = Job.create(image, components, tmp_path / "labels.zarr", tile_shape=16, halo=2, where=box)
        assert job.where.roi is not None
        np.testing.assert_array_equal(job.where.roi.mask(Box((0, 0), (64, 64))), wanted)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (np.zeros((11, 15, 13)), "is empty"),
        ([], "is empty"),
        ("100:200,:,:", "outside the image"),
        ("-20:10,:,:", "whole numbers from 0"),
        ("0.2:4.5,:,:", "whole numbers from 0"),
        ("0:1e400,:,:", "whole numbers from 0"),
        ({"type": "Polygon", "coordinates": [[[90, 90], [99, 90], [99, 99]]]}, "outside the image"),
        ({"type": "Point", "coordinates": [3, 3]}, "no polygon"),
        ({"type": "Polygon", "coordinates": [["a"]]}, "not GeoJSON"),
        ("nothing.tif", "neither a file nor a box"),
        ("0:3", "1 ranges"),
        ("8:3,:,:", "holds no voxel along z"),
        ("0um:3um,:,:", "how large a voxel"),
        ("0ly:3ly,:,:", "unknown unit"),
        ("22:,:,:", "holds no voxel along z. The image has the voxels 0 to 21 there"),
        ({"type": "Polygon", "coordinates": [[[4.6, 4.6], [5.4, 4.6], [5.4, 5.4], [4.6, 5.4]]]}, "center of no voxel"),
        ([3, N_TILES], f"names tile {N_TILES}"),
        ("tiles:3,x", "is no tile"),
        (np.ones((10, 9, 26)), "do not show the same field"),
        (np.ones((2, 2, 22, 30)), "4 axes"),
        (np.full((11, 15, 13), np.nan), "is empty"),
        ("tiles:5-3", "is no tile"),
        ("tiles:²", "is no tile"),
        ("tiles:0-99999999999999", "names tile 99999999999999"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [float("nan"), 9], [9, 9]]]}, "no finite numbers"),
        ({"type": "Polygon", "coordinates": [[]]}, "is empty"),
    ],
)
def test_a_region_that_cannot_be_used_is_refused_before_any_work(
    image: Path, tmp_path: Path, where: object, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        segment(image, components, tmp_path / "labels.zarr", where=where, **OPTIONS, **QUIET)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="Choose one of centroid, touching, clip"):
        segment(image, components, tmp_path / "labels.zarr", where="0:9,:,:", inside="within", **OPTIONS, **QUIET)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("0um:1um,:,:", "is in um along t. Give time points there, such as 0:5"),
        (":,1.1um:1.3um,:", "9 centers there, from 0 to 4 micrometer"),
        (":,9um:,:", "9 centers there, from 0 to 4 micrometer"),
        (":,3um:1um,:", "The stop must be larger"),
    ],
)
def test_boxes_in_world_units_that_hold_nothing_are_sentences(tmp_path: Path, where: str, words: str) -> None:
    movie = np.zeros((3, 9, 9), np.uint8)
    with pytest.raises(ValueError, match=words):
        Job.create(movie, components, tmp_path / "a.zarr", axes="tyx", spacing=0.5, where=where, tile_shape=9)


@pytest.mark.parametrize(
    "where",
    [[True, False], np.array([True, False]), [[0, 1], [1, 0]], b"0:9,:,:", 5],
    ids=["list", "array", "nested", "bytes", "5"],
)
def test_what_is_no_region_is_not_taken_for_tiles(image: Path, tmp_path: Path, where: object) -> None:
    with pytest.raises(TypeError, match="A mask must be an array with the axes of the image"):
        Job.create(image, components, tmp_path / "labels.zarr", where=where, **OPTIONS)


def test_masks_of_time_series_have_their_time_points(tmp_path: Path) -> None:
    movie = np.ones((4, 16, 16), np.uint8)
    options: dict = {"axes": "tyx", "tile_shape": 16, "halo": 2}
    with pytest.raises(ValueError, match="has 2 time points, and the image has 4"):
        Job.create(movie, components, tmp_path / "a.zarr", where=np.ones((2, 16, 16)), **options)
    for n, mask in enumerate((np.ones((1, 8, 8)), np.ones((4, 8, 8)), np.ones((8, 8)))):
        assert Job.create(movie, components, tmp_path / f"{n}.zarr", where=mask, **options).n_chosen == 4


@pytest.mark.parametrize("below", [float("nan"), float("inf"), "200"])
def test_a_threshold_of_empty_tiles_is_a_number(image: Path, tmp_path: Path, below: object) -> None:
    with pytest.raises(ValueError, match=r"skip_below is .* Give a number"):
        Job.create(image, components, tmp_path / "labels.zarr", skip_below=below, **OPTIONS)


# ------------------------------------------------------------------------------------------------------- growing a region
def test_a_larger_region_continues_the_job_and_a_smaller_one_keeps_its_tiles(image: Path, tmp_path: Path) -> None:
    output, model = tmp_path / "labels.zarr", Counting(tmp_path / "calls")
    options: dict = {**OPTIONS, **QUIET, "overwrite": True, "inside": "touching"}
    small = segment(image, model, output, where="tiles:0-2,9", **options)
    assert (model.calls, small.n_skipped, small.missing_tiles) == (4, N_TILES - 4, [])
    assert small.provenance["tiles"]["skipped"] == N_TILES - 4
    # The files of a tile are those of staged tiles only.
    job = Job.open(tmp_path / "labels.zarr.job")
    assert (job.n_chosen, job.staged(), job.is_complete()) == (4, {0, 1, 2, 9}, True)
    assert len([f for f in job.store.folder.rglob("*") if f.is_file() and f.suffix != ".json"]) <= 4 * 3

    with pytest.warns(UserWarning, match="15 tiles now, 4 tiles before. 4 of them are staged already"):
        grown = segment(image, model, output, where="tiles:0-13,20", **options)
    assert (model.calls, grown.n_skipped) == (15, N_TILES - 15)

    with pytest.warns(UserWarning, match="5 staged tiles outside stay on disk"):
        shrunk = segment(image, model, output, where="tiles:0-9", **options)
    assert (model.calls, shrunk.n_skipped, len(Job.open(output).staged())) == (15, N_TILES - 15, 15)
    in_region = Job.open(output).where.roi.mask(WHOLE)
    labels = np.asarray(shrunk.labels)
    assert all(in_region[labels == i].any() for i in range(1, shrunk.n_objects + 1))

    with pytest.warns(UserWarning, match=f"{N_TILES} tiles now, 10 tiles before"):
        full = segment(image, model, output, **options)
    assert (model.calls, full.n_skipped) == (N_TILES, 0)
    assert "where" not in full.provenance
    assert not (tmp_path / "labels.zarr.job" / "where.json").exists()


def test_a_job_is_resumed_without_the_mask_of_the_user(image: Path, tmp_path: Path) -> None:
    mask = np.zeros((11, 15, 13), np.uint8)
    mask[3:5, 2:9, 1:4] = 1
    tifffile.imwrite(tmp_path / "mask.tif", mask, metadata={"axes": "ZYX"})
    job = Job.create(image, components, tmp_path / "labels.zarr", where=tmp_path / "mask.tif", **OPTIONS)
    for _ in zip(range(2), job.stage(), strict=False):
        pass
    (tmp_path / "mask.tif").unlink()
    again = Job.open(job.folder, model=components)
    assert again.where.digest == job.where.digest
    assert again.where.said == str(tmp_path / "mask.tif")
    list(again.stage())
    assert len(again.staged()) == again.n_chosen < N_TILES


def test_a_region_that_changed_since_the_job_was_opened_is_refused(image: Path, tmp_path: Path) -> None:
    job = Job.create(image, components, tmp_path / "labels.zarr", where=[0], **OPTIONS)
    with pytest.warns(UserWarning, match="2 tiles now, 1 tile before"):
        other = Job.create(image, components, tmp_path / "labels.zarr", where=[1, 2], **OPTIONS)
    with pytest.raises(JobMismatchError, match="was changed since the job was opened"):
        list(job.stage())
    list(other.stage())
    assert other.staged() == {1, 2}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Job.create(image, components, tmp_path / "labels.zarr", where=[1, 2], **OPTIONS)
    path = other.folder / "where.json"
    path.write_bytes(path.read_bytes().replace(b"centroid", b"clip").replace(b"touching", b"clip"))
    with pytest.raises(JobError, match="cannot be read as a region of interest"):
        Job.open(job.folder)


# ------------------------------------------------------------------------------------------------------------ empty tiles
class ReadBoxes(list):
    """The boxes that were read of any image."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original = StoredSource._read

        def read(source: StoredSource, box: Box) -> np.ndarray:
            self.append(box)
            return original(source, box)

        monkeypatch.setattr(StoredSource, "_read", read)


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """An image of which two blocks are stored, one of them with the value of the others, and one is constant."""
    array = zarr.create_array(
        str(tmp_path / "sparse.zarr"),
        shape=(80, 80),
        chunks=(10, 10),
        dtype=np.uint16,
        fill_value=7,
        config={"write_empty_chunks": True},
    )
    array[20:40, 20:40] = np.random.default_rng(0).integers(0, 900, (20, 20))
    array[60:80, 0:20] = 7
    array[60:80, 60:80] = 5
    return tmp_path / "sparse.zarr"


def test_chunks_that_are_not_stored_are_skipped_without_reading_a_pixel(
    sparse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, grid = open_image(sparse), TileGrid((80, 80), 20, 4)
    read = ReadBoxes(monkeypatch)
    empty = empty_tiles(source, grid, range(16))
    # Tiles beside the noise read a part of it in their halo. The block of fives is constant only without its halo.
    assert empty == [3, 7, 12, 13]
    assert {grid.tile_at((70, 10)).read, grid.tile_at((70, 70)).read} <= set(read)
    assert not {grid[i].read for i in (3, 7)} & set(read)
    assert empty_tiles(source, TileGrid((80, 80), 20, 0), range(16)) == [i for i in range(16) if i != 5]


def test_tiles_below_a_threshold_are_skipped_and_counted(sparse: Path, tmp_path: Path) -> None:
    pixels = np.asarray(zarr.open_array(str(sparse))[:])
    model = Counting(tmp_path / "calls")
    options: dict = {"tile_shape": 20, "halo": 4, **QUIET}
    wanted = [t.index for t in TileGrid((80, 80), 20, 4) if pixels[t.read.slices].max() > 300]
    for image, name in ((sparse, "stored"), (pixels, "array")):
        result = segment(image, model, tmp_path / f"{name}.zarr", skip_below=300, keep_stage=True, **options)
        job = Job.open(result.path)
        assert sorted(job.staged()) == wanted
        assert result.n_skipped == 16 - len(wanted)
        assert result.provenance["where"]["skip_below"] == 300
        assert result.provenance["where"]["empty_tiles"] == 16 - len(wanted)
    assert model.calls == 2 * len(wanted)
    # Within a region, the two come together; asked again, nothing is read twice.
    within = segment(sparse, model, tmp_path / "both.zarr", where="0:40,:", skip_below=300, **options)
    assert within.n_skipped == 16 - len([i for i in wanted if i < 8])


@pytest.mark.parametrize("chunk", [60, 25, 10])
def test_large_chunks_hide_no_empty_tiles(tmp_path: Path, chunk: int) -> None:
    """What a chunk holds outside a tile says nothing about the tile."""
    pixels = np.zeros((60, 60), np.uint16)
    pixels[:25, :25] = np.random.default_rng(0).integers(0, 60000, (25, 25))
    zarr.create_array(str(tmp_path / "image.zarr"), data=pixels, chunks=(chunk, chunk))
    for halo in (0, 4):
        grid = TileGrid(pixels.shape, 20, halo)
        wanted = [tile.index for tile in grid if not pixels[tile.read.slices].any()]
        assert empty_tiles(open_image(tmp_path / "image.zarr"), grid, range(9)) == wanted


def test_an_image_that_holds_nothing_is_a_sentence(tmp_path: Path) -> None:
    blank = np.full((40, 40), 3, np.uint8)
    for skip in ({"skip_empty": True}, {"skip_below": 3}):
        with pytest.raises(ValueError, match="All 4 tiles to segment hold nothing"):
            segment(blank, components, tmp_path / "labels.zarr", tile_shape=20, halo=2, **skip, **QUIET)
    assert not list(tmp_path.iterdir())
    assert segment(blank, components, tmp_path / "labels.zarr", tile_shape=20, halo=2, **QUIET).n_objects == 0


def test_tiles_without_sums_are_read_and_judged_alike(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job.create(image, components, tmp_path / "labels.zarr", where="0:12,5:20,0:17", **OPTIONS)
    list(job.stage())
    wanted = job.merge("touch")

    def no_sums(tiles: object) -> None:
        raise NoSumsError("an earlier version")

    monkeypatch.setattr("napari_blockbuster.job.state.tiles.Tiles.sums", no_sums)
    found = Job.open(job.folder).merge("touch")
    assert 0 < found.n_objects == wanted.n_objects < found.n_objects + found.n_outside
    np.testing.assert_array_equal(found.new_ids, wanted.new_ids)


def test_the_table_of_cut_objects_is_of_their_written_voxels(image: Path, tmp_path: Path) -> None:
    options: dict = {"where": "0:2,:,0:4", "inside": "clip", "merge": "none", "progress": False, **OPTIONS}
    result = segment(image, components, tmp_path / "a.zarr", **options)
    labels, pixels = np.asarray(result.labels), np.asarray(zarr.open_array(image, mode="r"))
    expected = regionprops_table(labels, pixels, properties=["label", "area", "intensity_mean"])
    assert len(expected["label"]) > 1
    for name, values in expected.items():
        np.testing.assert_allclose(result.table[name], values, err_msg=name)
    # A filter judges objects as a whole, by their size and by the same column alike.
    limit = int(result.table["area"].max()) + 1
    sizes = ObjectFilter(min_size=limit), ObjectFilter(ranges={"area": (limit, None)})
    by_size, by_column = (
        segment(image, components, tmp_path / f"{n}.zarr", filter=keep, **options) for n, keep in enumerate(sizes)
    )
    np.testing.assert_array_equal(by_size.labels, by_column.labels)
    assert by_column.n_objects > 0
