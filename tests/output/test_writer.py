"""The merged labels on disk: pyramid, metadata, one writer for each file."""

from __future__ import annotations

import json
import math
import pickle
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import open_image
from napari_blockbuster.machine.disk import StoreError
from napari_blockbuster.output.label_image import labels_info, open_labels
from napari_blockbuster.output.ngff import attributes, plan_levels
from napari_blockbuster.output.writer import LabelsWriter


def make_writer(path: Path, grid: TileGrid, **options: Any) -> LabelsWriter:
    """A writer of labels in 2 x 0.5 x 0.5 µm voxels; time, if any, every 10 s."""
    ndim = len(grid.shape) - grid.separate_axes
    settings = {
        "dtype": np.uint32,
        "axes": ("t",) * grid.separate_axes + ("z", "y", "x")[-ndim:],
        "scale": (10.0,) * grid.separate_axes + (2.0, 0.5, 0.5)[-ndim:],
        "units": ("second",) * grid.separate_axes + ("micrometer",) * ndim,
        "name": "cells",
    }
    return LabelsWriter.create(path, grid=grid, **settings | options)


def write(writer: LabelsWriter, labels: np.ndarray, order: list[int] | None = None) -> None:
    """All tiles, then the coarse levels, as a job does."""
    for index in order or writer.grid.order():
        tile = writer.grid[index]
        writer.write_tile(tile, labels[tile.core.slices].copy()).result()
    for blocks in writer.passes():
        for number, box in blocks:
            writer.write_block(number, box)


def noise(shape: tuple[int, ...], dtype: Any = np.uint32) -> np.ndarray:
    """Labels that differ from voxel to voxel: any voxel out of place shows."""
    labels = np.random.default_rng(1).integers(1, 2**31, shape, dtype=dtype)
    labels[labels % 5 == 0] = 0
    return labels


def read_levels(path: Path) -> list[np.ndarray]:
    return [open_labels(path, level).compute(scheduler="sync") for level in range(len(labels_info(path)["shapes"]))]


def assert_pyramid(path: Path, labels: np.ndarray, writer: LabelsWriter) -> None:
    """Each level is the full resolution, every so many voxels."""
    for found, level in zip(read_levels(path), writer.levels, strict=True):
        np.testing.assert_array_equal(found, labels[tuple(slice(None, None, f) for f in level.factors)])


# ------------------------------------------------------------------------------------------------------------- pyramid
@settings(max_examples=25)
@given(data=st.data())
def test_every_level_is_a_subsample(data: st.DataObject) -> None:
    """For any shape, tile, spacing and version: no level shows an id that the voxel it stands for does not have."""
    ndim = data.draw(st.integers(1, 3))
    separate = data.draw(st.integers(0, 1))
    side = {1: 400, 2: 150, 3: 60}[ndim]
    shape = [data.draw(st.integers(1, 3)) for _ in range(separate)]
    shape += [data.draw(st.integers(1, side)) for _ in range(ndim)]
    tile = [1] * separate + [data.draw(st.sampled_from([16, 24, 32, 33, 64, 96])) for _ in range(ndim)]
    grid = TileGrid(shape, tile, separate_axes=separate)
    scale = (10.0,) * separate + tuple(data.draw(st.sampled_from([0.1, 0.5, 1.0, 4.0])) for _ in range(ndim))
    labels = noise(tuple(shape))
    order = data.draw(st.permutations(range(len(grid))))
    folder = Path(tempfile.mkdtemp())
    try:
        version, n_levels = data.draw(st.sampled_from(["0.4", "0.5"])), data.draw(st.integers(1, 5))
        writer = make_writer(folder / "o.zarr", grid, scale=scale, version=version, n_levels=n_levels)
        write(writer, labels, list(order))
        assert_pyramid(folder / "o.zarr", labels, writer)
    finally:
        shutil.rmtree(folder)


@given(
    shape=st.lists(st.integers(1, 10**6), min_size=1, max_size=3),
    scale=st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3),
    time=st.booleans(),
)
def test_levels_shrink_until_they_are_small(shape: list[int], scale: list[float], time: bool) -> None:
    full, sizes = [7] * time + shape, [1.0] * time + scale[: len(shape)]
    levels = plan_levels(full, sizes, int(time))
    assert levels[0].shape == tuple(full)
    assert max(levels[-1].shape[time:]) <= 256
    for above, below in zip(levels[1:], levels, strict=False):
        assert all(a == 7 for a in above.shape[:time])
        assert math.prod(above.shape) < math.prod(below.shape)
        steps = [a // b for a, b in zip(above.factors, below.factors, strict=True)]
        assert set(steps) <= {1, 2}
        assert above.shape == tuple(-(-n // f) for n, f in zip(full, above.factors, strict=True))


def test_thick_planes_wait_for_the_others() -> None:
    levels = plan_levels((64, 2048, 2048), (4.0, 0.5, 0.5), 0)
    assert [level.factors for level in levels] == [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8)]
    assert plan_levels((2048, 2048), (1, 1), 0, 1)[-1].factors == (1, 1)


# ------------------------------------------------------------------------------------------------------------ metadata
UNITS = {"micrometer", "nanometer", "millimeter", "second"}


def assert_valid(said: dict[str, Any], path: Path, version: str) -> None:
    """What the specification asks of a label image, rule by rule."""
    said = said["ome"] if version == "0.5" else said
    (multiscale,) = said["multiscales"]
    assert (said if version == "0.5" else multiscale)["version"] == version
    assert "image-label" in said
    axes = multiscale["axes"]
    types = [axis["type"] for axis in axes]
    assert types == sorted(types, key=["time", "channel", "space"].index)
    assert 2 <= types.count("space") <= 3
    assert len({axis["name"] for axis in axes}) == len(axes)
    assert all(axis.get("unit", "micrometer") in UNITS for axis in axes)
    shapes = []
    for dataset in multiscale["datasets"]:
        array = zarr.open_array(path / dataset["path"], mode="r")
        assert array.ndim == len(axes)
        assert array.dtype.kind == "u"
        if version == "0.5":
            assert array.metadata.dimension_names == tuple(axis["name"] for axis in axes)
        else:
            assert json.loads((path / dataset["path"] / ".zarray").read_text())["dimension_separator"] == "/"
        kinds = [step["type"] for step in dataset["coordinateTransformations"]]
        assert kinds in (["scale"], ["scale", "translation"])
        for step in dataset["coordinateTransformations"]:
            assert len(step[step["type"]]) == len(axes)
        shapes.append(array.shape)
    assert shapes == sorted(shapes, reverse=True)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_metadata(tmp_path: Path, version: str) -> None:
    grid = TileGrid((3, 8, 600, 700), (1, 8, 256, 256), separate_axes=1)
    options = {"translation": (0.0, 5.0, 6.0, 7.0), "source_image": "../../", "version": version}
    writer = make_writer(tmp_path / "o.zarr", grid, **options)
    writer.finish({"napari-blockbuster": {"merge": {"rule": "overlap"}}})
    group = zarr.open_group(tmp_path / "o.zarr", mode="r")
    assert group.metadata.zarr_format == (3 if version == "0.5" else 2)
    said = group.attrs.asdict()
    assert_valid(said, tmp_path / "o.zarr", version)
    label = said["ome"]["image-label"] if version == "0.5" else said["image-label"]
    assert label["source"] == {"image": "../../"}
    info = labels_info(tmp_path / "o.zarr")
    assert info["axes"] == ["t", "z", "y", "x"]
    assert info["shapes"] == [(3, 8, 600, 700), (3, 8, 300, 350), (3, 8, 150, 175)]
    assert info["scales"] == [[10, 2, 0.5, 0.5], [10, 2, 1, 1], [10, 2, 2, 2]]
    assert info["provenance"] == {"merge": {"rule": "overlap"}}
    for level in range(3):
        source = open_image(tmp_path / "o.zarr", level=level)
        # The first voxel of a level is the first of the full resolution: its centre is where that one's is.
        assert source.translation == (0, 5, 6, 7)
        assert source.units == ("second", "micrometer", "micrometer", "micrometer")
        assert source.spacing == (2, 0.5 * 2**level, 0.5 * 2**level)


def test_metadata_of_an_image_that_says_little() -> None:
    levels = plan_levels((100, 100), (1, 1), 0)
    options: dict[str, Any] = {"axes": "yx", "scale": (1, 1), "units": (None, None), "translation": None}
    said = attributes(levels, version="0.5", name="cells", source_image=None, **options)
    (multiscale,) = said["ome"]["multiscales"]
    assert multiscale["axes"] == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    assert multiscale["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": [1.0, 1.0]}]
    assert said["ome"]["image-label"] == {}
    json.dumps(said)


# --------------------------------------------------------------------------------------------------------------- files
def files_of(path: Path) -> dict[Path, tuple[int, int]]:
    """Every file of pixels, and what changes when it is written again."""
    found = [f for f in path.rglob("*") if f.is_file() and f.name not in ("zarr.json", ".zarray", ".zattrs", ".zgroup")]
    return {f: (f.stat().st_ino, f.stat().st_mtime_ns) for f in found}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_each_file_is_written_once_by_one_writer(tmp_path: Path, version: str) -> None:
    grid = TileGrid((100, 200, 300), (64, 64, 64))
    writer = make_writer(tmp_path / "o.zarr", grid, version=version, n_levels=4)
    labels = noise(grid.shape)
    steps = [lambda tile=tile: writer.write_tile(tile, labels[tile.core.slices]).result() for tile in grid]
    steps += [lambda n=n, box=box: writer.write_block(n, box) for blocks in writer.passes() for n, box in blocks]
    known: dict[Path, tuple[int, int]] = {}
    for step in steps:
        step()
        now = files_of(tmp_path / "o.zarr")
        assert now.items() >= known.items(), "a file of another writer was written again, or is gone"
        assert len(now) > len(known)
        known = now
    assert_pyramid(tmp_path / "o.zarr", labels, writer)
    if version == "0.5":
        assert len(known) == len(steps) + sum(len(grid) for _ in writer._tile_levels()[1:])


def test_a_shard_is_a_tile_of_small_chunks(tmp_path: Path) -> None:
    grid = TileGrid((300, 1024, 1024), (150, 512, 512))
    make_writer(tmp_path / "o.zarr", grid)
    array = zarr.open_array(tmp_path / "o.zarr" / "0", mode="r")
    assert array.shards == grid.tile_shape
    assert math.prod(array.chunks) <= 64**3
    assert open_labels(tmp_path / "o.zarr").chunksize == grid.tile_shape
    make_writer(tmp_path / "v2.zarr", grid, version="0.4")
    chunks = zarr.open_array(tmp_path / "v2.zarr" / "0", mode="r").chunks
    assert all(t % c == 0 for t, c in zip(grid.tile_shape, chunks, strict=True))


def test_background_takes_no_files(tmp_path: Path) -> None:
    grid = TileGrid((600, 600), (128, 128))
    writer = make_writer(tmp_path / "o.zarr", grid)
    labels = np.zeros(grid.shape, np.uint32)
    write(writer, labels)
    assert not files_of(tmp_path / "o.zarr")
    assert_pyramid(tmp_path / "o.zarr", labels, writer)


def test_many_objects_need_wide_ids(tmp_path: Path) -> None:
    grid = TileGrid((60, 70), (32, 32))
    writer = pickle.loads(pickle.dumps(make_writer(tmp_path / "o.zarr", grid, dtype=np.uint64)))
    labels = noise(grid.shape, np.uint64) + np.uint64(2**40)
    write(writer, labels)
    assert open_labels(tmp_path / "o.zarr").dtype == np.uint64
    assert_pyramid(tmp_path / "o.zarr", labels, writer)


def test_the_same_path_again_with_other_tiles(tmp_path: Path) -> None:
    """A run writes to the temporary path that the run before it used, in the same process, with other tiles and ids."""
    for tile, dtype, side in ((32, np.uint32, 100), (48, np.uint64, 90), (32, np.uint32, 100)):
        grid = TileGrid((side, side), tile)
        writer = make_writer(tmp_path / "o.zarr", grid, dtype=dtype)
        labels = noise(grid.shape, dtype)
        write(writer, labels)
        assert_pyramid(tmp_path / "o.zarr", labels, writer)
        shutil.rmtree(tmp_path / "o.zarr")


def test_refusals(tmp_path: Path) -> None:
    grid = TileGrid((10, 10), 10)
    (tmp_path / "o.zarr").mkdir()
    with pytest.raises(FileExistsError, match=r"o\.zarr exists"):
        make_writer(tmp_path / "o.zarr", grid)
    with pytest.raises(ValueError, match=r"OME-Zarr version '0\.3' cannot be written. Choose '0\.5' or '0\.4'"):
        make_writer(tmp_path / "p.zarr", grid, version="0.3")
    assert not (tmp_path / "p.zarr").exists()


def test_labels_that_cannot_be_written_say_so(tmp_path: Path) -> None:
    """A disk that fails is heard of at `result`, not swallowed."""
    grid = TileGrid((64, 64), 32)
    writers = [make_writer(tmp_path / f"{name}.zarr", grid) for name in "op"]
    writers[0].write_tile(grid[0], noise((32, 32))).result()
    for writer in writers:
        shutil.rmtree(writer.path / "0")
        (writer.path / "0").write_text("in the way")
        with pytest.raises(StoreError, match=rf"\(.*{re.escape(writer.path.name)}: "):
            writer.write_tile(grid[1], noise((32, 32))).result()


def test_labels_that_are_not_there(tmp_path: Path) -> None:
    make_writer(tmp_path / "o.zarr", TileGrid((10, 10), 10))
    with pytest.raises(ValueError, match=r"there is no level 3 in the labels .*o\.zarr\. Its levels are 0 to 0"):
        open_labels(tmp_path / "o.zarr", 3)
    zarr.create_group(str(tmp_path / "g.zarr"))
    (tmp_path / "empty").mkdir()
    for name in ("g.zarr", "empty"):
        for read in (open_labels, labels_info):
            with pytest.raises(ValueError, match=f"{name} is not a label image: it has no OME-Zarr"):
                read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"there are no labels at .*missing"):
        open_labels(tmp_path / "missing")
