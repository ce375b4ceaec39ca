"""Compare live labels with the merged labels of the engine: all levels, before and after a merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_same_objects
from scipy import ndimage

from napari_blockbuster import Job
from napari_blockbuster.job.job import TileStaged
from napari_blockbuster.merge.filters import ObjectFilter
from napari_blockbuster.widgets.layers.of_image.lazy import LazyView, views_of
from napari_blockbuster.widgets.layers.of_job import live as live_module
from napari_blockbuster.widgets.layers.of_job.live import LiveLabels


def components(tile: np.ndarray) -> np.ndarray:
    return ndimage.label(tile > 900)[0]


@pytest.fixture(params=["painted", "read through"])
def small_memory(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the pyramid of large images for a small image, with the finest level painted or read from the stage."""
    monkeypatch.setattr(live_module, "SMALL_PLANE", 2**10)
    monkeypatch.setattr(live_module, "SMALL_VOLUME", 2**12)
    monkeypatch.setattr(live_module, "IN_MEMORY", 2**30 if request.param == "painted" else 2**13)
    monkeypatch.setattr(live_module, "CACHED_VOXELS", 2**13)


def staged_job(folder: Path, pixels: np.ndarray, tile: Any, axes: str | None = None) -> tuple[Job, LiveLabels]:
    job = Job.create(pixels, components, folder / "labels.ome.zarr", tile_shape=tile, halo=8, axes=axes)
    live = LiveLabels(job)
    for event in job.stage():
        assert isinstance(event, TileStaged)
        live.land(event.tile, event.record.n_objects)
    return job, live


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize(("ndim", "tile", "axes"), [(2, (40, 30), None), (3, (20, 33, 40), None), (3, (40, 30), "tyx")])
def test_levels_are_subsamples_of_the_merged_labels(
    tmp_path: Path, blobs: np.ndarray, ndim: int, tile: tuple[int, ...], axes: str | None
) -> None:
    pixels = blobs if ndim == 3 else blobs[20]
    job, live = staged_job(tmp_path, pixels, tile, axes)
    assert live.multiscale
    merged = job.merge("touch")
    expected = merged.labels.compute()

    whole = np.asarray(live.levels[0])
    np.testing.assert_array_equal(whole > 0, expected > 0)
    for wanted, before in ((None, whole), (merged, expected), (None, whole)):
        live.merge(wanted)
        for level in live.levels:
            steps = tuple(-(-n // m) for n, m in zip(pixels.shape, level.shape, strict=True))
            sub = before[tuple(slice(None, None, s) for s in steps)]
            np.testing.assert_array_equal(np.asarray(level), sub)
    assert_same_objects(expected, merged.labels.compute())


@pytest.mark.usefixtures("small_memory")
def test_filled_holes_are_shown_and_taken_back(tmp_path: Path, blobs: np.ndarray) -> None:
    """Fill holes that contain whole tiles, and labels with several parts."""
    field = ndimage.gaussian_filter(blobs.astype(float), 1.5)
    pixels = (1000 * ((field > 250) & (field < 700))).astype(np.uint16)
    pixels[:, 5:75, 5:75] = 1000
    pixels[4:44, 12:70, 12:70] = 0
    pixels[20:24, 30:34, 30:34] = 1000
    job, live = staged_job(tmp_path, pixels, (16, 24, 20))
    merged = job.merge("touch")
    filled = job.filtered(merged, ObjectFilter(fill_holes=True))
    kept = job.filtered(merged, ObjectFilter(min_size=100, fill_holes=True))
    assert filled.filled is not None
    assert kept.filled is not None
    assert kept.filled.n_holes != filled.filled.n_holes
    whole = np.asarray(live.levels[0]).copy()
    for wanted in (filled, merged, kept, None, kept, filled):
        live.merge(wanted)
        expected = whole if wanted is None else wanted.labels.compute()
        for level in live.levels:
            steps = tuple(-(-n // m) for n, m in zip(pixels.shape, level.shape, strict=True))
            shown = np.asarray(level)
            if wanted is None:
                # Tiles that were read again have new numbers.
                assert_same_objects(shown, expected[tuple(slice(None, None, s) for s in steps)])
            else:
                np.testing.assert_array_equal(shown, expected[tuple(slice(None, None, s) for s in steps)])
        np.testing.assert_array_equal(np.asarray(live.levels[0][17, 20:60]), np.asarray(live.levels[0])[17, 20:60])
    # A tile that is segmented again is read as labels until its holes are found.
    index = int(filled.filled.tiles[0])
    live.land(job.grid[index], job.store.record(index).n_objects)
    live.merge(merged)
    np.testing.assert_array_equal(np.asarray(live.levels[0]), merged.labels.compute())


@pytest.mark.usefixtures("small_memory")
def test_planes_and_boxes_are_read_alone(tmp_path: Path, blobs: np.ndarray) -> None:
    job, live = staged_job(tmp_path, blobs, (20, 33, 40))
    live.merge(job.merge("touch"))
    whole = np.asarray(live.levels[0])
    level = live.levels[0]
    np.testing.assert_array_equal(level[17], whole[17])
    np.testing.assert_array_equal(level[..., -3], whole[..., -3])
    np.testing.assert_array_equal(level[5:40:3, 30, 10:70], whole[5:40:3, 30, 10:70])
    assert np.asarray(level[5:5]).shape == (0, *whole.shape[1:])


def test_tiles_that_land_after_a_merge_keep_ids_of_their_own(tmp_path: Path, blobs: np.ndarray) -> None:
    plane = blobs[20]
    job = Job.create(plane, components, tmp_path / "labels.ome.zarr", tile_shape=(40, 30), halo=8)
    live = LiveLabels(job)
    tiles = list(range(len(job.grid)))
    for event in job.stage(tiles=tiles[:4]):
        live.land(event.tile, event.record.n_objects)
    merged = job.merge("touch")
    live.merge(merged)
    for event in job.stage(tiles=tiles[4:]):
        live.land(event.tile, event.record.n_objects)
    shown = np.asarray(live.levels[0])
    for index in tiles[:4]:
        core = job.grid[index].core.slices
        np.testing.assert_array_equal(shown[core], merged.labels[core].compute())
    early = np.unique(np.concatenate([shown[job.grid[i].core.slices].ravel() for i in tiles[:4]]))
    late = np.unique(np.concatenate([shown[job.grid[i].core.slices].ravel() for i in tiles[4:]]))
    live.merge(merged)
    assert not set(early[early > 0]) & set(late[late > 0])


def test_a_tile_without_objects_is_never_read(tmp_path: Path) -> None:
    job = Job.create(np.zeros((60, 60), np.uint8), components, tmp_path / "labels.ome.zarr", tile_shape=20, halo=4)
    live = LiveLabels(job)
    for event in job.stage():
        live.land(event.tile, event.record.n_objects)
    job.store.delete()
    assert not np.asarray(live.levels[0]).any()


def test_lazy_views_slice_like_numpy(blobs: np.ndarray) -> None:
    read: list[int] = []

    def reading(box: Any) -> np.ndarray:
        read.append(box.size)
        return blobs[box.slices]

    view = LazyView(blobs.shape, blobs.dtype, reading)
    for index in (3, -1, (slice(None), 4), (..., 7), (slice(1, 9, 2), -2, slice(5, None)), ()):
        part = view[index]
        assert part.shape == blobs[index].shape
        np.testing.assert_array_equal(np.asarray(part), blobs[index])
    read.clear()
    # napari slices the displayed axes first, then the plane. Only the plane is read.
    np.testing.assert_array_equal(np.asarray(view[:, 3:60, 5:50][7]), blobs[7, 3:60, 5:50])
    np.testing.assert_array_equal(np.asarray(view[:, 3:60:3, 5:50][7, ::2]), blobs[7, 3:60:3, 5:50][::2])
    assert read[0] == 57 * 45
    assert len(view) == len(blobs)
    with pytest.raises(IndexError):
        view[::-1]


def test_views_of_a_file_have_its_levels(tmp_path: Path, blobs: np.ndarray) -> None:
    from napari_blockbuster import segment
    from napari_blockbuster.images import open_image

    result = segment(blobs, components, tmp_path / "labels.ome.zarr", tile_shape=32, halo=4, progress=False)
    source = open_image(result.path)
    views = views_of(source)
    assert views[0].shape == blobs.shape
    assert len(views) == len(list(result.path.glob("[0-9]*")))


def test_nothing_is_compiled_when_the_first_labels_arrive() -> None:
    """numba compiles for seconds, which would block the viewer."""
    from napari.layers import Labels
    from napari.utils.colormaps import _accelerated_cmap

    from napari_blockbuster.widgets.layers.warming import warm_napari

    warm_napari().join(120)
    assert warm_napari() is warm_napari()
    loop = _accelerated_cmap._zero_preserving_modulo_inner_loop
    before = len(loop.signatures)
    assert before
    for dtype in (np.int32, np.uint32):
        Labels(np.ones((5, 5), dtype))
        Labels(np.ones((4, 5, 5), dtype))
    assert len(loop.signatures) == before
