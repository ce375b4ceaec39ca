"""Any label image is measured on any image, tile by tile, with the values of regionprops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from command_line import mistake, run
from distributed import Client
from scipy import ndimage
from skimage.measure import regionprops_table

from napari_blockbuster import measure_objects, segment


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """Confluent labels with large ids as TIFF, and a zarr of two channels."""
    rng = np.random.default_rng(8)
    shape = (12, 50, 60)
    seeds = rng.random(shape) < 0.002
    nearest = ndimage.distance_transform_edt(~seeds, return_distances=False, return_indices=True)
    labels = np.zeros(shape, np.uint32)
    labels[seeds] = rng.choice(10**6, int(seeds.sum()), replace=False) + 5
    labels = labels[tuple(nearest)]
    labels[rng.random(shape) < 0.1] = 0
    pixels = rng.normal(100, 20, (2, *shape)).astype(np.float32)
    folder = tmp_path_factory.mktemp("images")
    tifffile.imwrite(folder / "labels.tif", labels, metadata={"axes": "ZYX"})
    zarr.create_array(
        str(folder / "image.zarr"), data=pixels, chunks=(1, 6, 20, 20), dimension_names=["c", "z", "y", "x"]
    )
    return folder / "labels.tif", folder / "image.zarr", labels, pixels


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_blockbuster.geometry.tiles import TileGrid

    def grid(source: object) -> TileGrid:
        return TileGrid(source.shape, (5, 16, 16))

    monkeypatch.setattr("napari_blockbuster.measure.label_image.pair_grid", grid)


SUMS = ["label", "area", "centroid", "bbox", "extent", "axis_major_length", "intensity_mean", "intensity_std"]


def assert_equal(table: pd.DataFrame, expected: dict[str, np.ndarray]) -> None:
    for name, values in expected.items():
        np.testing.assert_allclose(table[name], values, rtol=1e-6 if "axis" in name else 1e-9, err_msg=name)


@pytest.mark.usefixtures("small_tiles")
def test_sums_equal_regionprops(images: tuple) -> None:
    path, image, labels, pixels = images
    table = measure_objects(path, image, spacing=(2, 0.5, 0.5), progress=False)
    expected = regionprops_table(labels, np.moveaxis(pixels.astype(np.float64), 0, -1), properties=SUMS)
    assert len(table) > 50
    assert_equal(table, expected)
    np.testing.assert_allclose(table["volume_um3"], table["area"] * 0.5)
    padded = np.pad(labels, 1)
    faces = np.zeros(labels.max() + 1)
    for axis in range(3):
        low, high = np.delete(padded, -1, axis), np.delete(padded, 0, axis)
        for side in (low, high):
            faces += np.bincount(side[low != high], minlength=len(faces))
    np.testing.assert_allclose(table["surface_area"], faces[table["label"]] * 2 / 3)
    edge = np.unique(np.concatenate([labels.take(k, axis).ravel() for axis in range(3) for k in (0, -1)]))
    assert set(table["label"][table["on_edge"]]) == set(edge) - {0}
    only_places = measure_objects(labels, progress=False)
    pd.testing.assert_series_equal(only_places["area"], table["area"])


@pytest.mark.usefixtures("small_tiles")
def test_properties_that_are_no_sums(images: tuple) -> None:
    path, image, labels, pixels = images

    def brightest(region: object) -> dict[str, float]:
        return {"place_of_brightest": float(np.argmax(region.image_intensity)), "n": region.area}

    names = ["solidity", "feret_diameter_max", "euler_number"]
    table = measure_objects(
        path,
        image,
        channel=1,
        properties=[*names, "intensity_median", "intensity_percentile_90"],
        functions=[brightest],
        progress=False,
    )
    expected = regionprops_table(labels, pixels[1], properties=["label", *names])
    assert_equal(table, expected)
    values = [pixels[1][labels == label] for label in table["label"]]
    np.testing.assert_allclose(table["intensity_median-1"], [np.median(v) for v in values], rtol=1e-6)
    np.testing.assert_allclose(table["intensity_percentile_90-1"], [np.percentile(v, 90) for v in values], rtol=1e-6)
    np.testing.assert_array_equal(table["n"], table["area"])
    with pytest.raises(ValueError, match="not a property"):
        measure_objects(path, image, properties=["roundness"], progress=False)


@pytest.mark.usefixtures("small_tiles")
def test_an_interrupted_measurement_continues(images: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_blockbuster.measure import tile_measurement

    path, image, *_ = images
    target = tmp_path / "t.parquet"
    measured: list[int] = []
    measure_tile = tile_measurement.measure_tile

    def failing(index: int, *rest: object) -> object:
        if len(measured) == 7:
            raise KeyboardInterrupt
        measured.append(index)
        return measure_tile(index, *rest)

    monkeypatch.setattr(tile_measurement, "measure_tile", failing)
    with pytest.raises(KeyboardInterrupt):
        measure_objects(path, image, target, progress=False)
    assert not target.exists()
    first = set(measured)
    measured.clear()
    monkeypatch.setattr(
        tile_measurement, "measure_tile", lambda index, *rest: (measured.append(index), measure_tile(index, *rest))[1]
    )
    table = measure_objects(path, image, target, progress=False)
    assert measured
    assert not first & set(measured)
    pd.testing.assert_frame_equal(table, measure_objects(path, image, progress=False))
    pd.testing.assert_frame_equal(pd.read_parquet(target), table)
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
    with pytest.raises(FileExistsError):
        measure_objects(path, image, target, progress=False)


def test_another_level_of_the_pyramid(images: tuple) -> None:
    _, _, labels, pixels = images
    fine = np.repeat(np.repeat(labels, 2, axis=1), 2, axis=2)
    table = measure_objects(fine, pixels[0], progress=False)
    expected = regionprops_table(labels, pixels[0].astype(np.float64), properties=["label", "area", "intensity_mean"])
    np.testing.assert_array_equal(table["area"], expected["area"] * 4)
    np.testing.assert_allclose(table["intensity_mean"], expected["intensity_mean"], rtol=1e-9)
    with pytest.raises(ValueError, match="another level of its pyramid"):
        measure_objects(labels, pixels[0][:, :33], progress=False)


def test_labels_of_a_job_have_the_same_table_again(images: tuple, tmp_path: Path) -> None:
    _, image, *_ = images

    def bright(tile: np.ndarray) -> np.ndarray:
        return ndimage.label(ndimage.uniform_filter(tile, 3) > 103)[0]

    options = {"tile_shape": (12, 20, 20), "halo": 3, "merge": "touch", "progress": False}
    result = segment(image, bright, tmp_path / "o.ome.zarr", channel=0, measure=1, **options)
    again = measure_objects(result.path, image, progress=False)
    names = [name for name in again.columns if name != "n_tiles"]
    pd.testing.assert_frame_equal(again[names], result.table[names], rtol=1e-9)


def test_the_command(images: tuple, tmp_path: Path) -> None:
    path, image, labels, _ = images
    code = tmp_path / "f.py"
    code.write_text("def twice(region):\n    return {'twice': 2 * region.area}\n")
    target = tmp_path / "t.csv"
    words = ["measure", path, image, "--channel", 1, "-o", target, "--workers", 0, "-q"]
    done = run(*words, "-p", "solidity", "--function", f"{code}:twice")
    assert str(target) in done.stdout
    table = pd.read_csv(target)
    assert len(table) == len(np.unique(labels[labels > 0]))
    np.testing.assert_array_equal(table["twice"], 2 * table["area"])
    assert {"solidity", "intensity_mean-1"} <= set(table.columns)
    assert "exists" in mistake(*words)


@pytest.mark.usefixtures("small_tiles")
def test_interrupted_functions_continue_with_the_objects_that_are_left(images: tuple, tmp_path: Path) -> None:
    path, image, *_ = images
    target, log = tmp_path / "t.parquet", tmp_path / "visited"
    options: dict = {"properties": ["solidity"], "progress": False}

    def visited(limit: int | None) -> Callable[[Any], dict[str, float]]:
        def twice(region: Any) -> dict[str, float]:
            with log.open("a+") as file:
                file.write(".")
                if file.tell() == int((tmp_path / "limit").read_text()):
                    raise KeyboardInterrupt
            return {"twice": 2.0 * region.area, "nothing": float("nan")}

        (tmp_path / "limit").write_text(str(limit or -1))
        return twice

    with pytest.raises(KeyboardInterrupt):
        measure_objects(path, image, target, functions=[visited(30)], **options)
    (log).write_text("")
    table = measure_objects(path, image, target, functions=[visited(None)], **options)
    assert 0 < len(log.read_text()) < len(table) - 15
    pd.testing.assert_frame_equal(table, measure_objects(path, image, functions=[visited(None)], **options))
    np.testing.assert_array_equal(table["twice"], 2 * table["area"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["limit", "t.parquet", "visited"]


@pytest.mark.xdist_group("cluster")
@pytest.mark.usefixtures("small_tiles")
def test_a_cluster_measures_the_same(images: tuple, client: Client) -> None:
    path, image, labels, pixels = images

    def half(region: Any) -> dict[str, float]:
        return {"half": region.area / 2}

    options: dict = {"properties": ["solidity", "intensity_median"], "functions": [half], "progress": False}
    here = measure_objects(path, image, **options)
    pd.testing.assert_frame_equal(measure_objects(path, image, client=client, **options), here)
    # Arrays in memory travel to the workers with each tile.
    again = measure_objects(labels, np.moveaxis(pixels, 0, -1), client=client, axes="zyxc", **options)
    pd.testing.assert_frame_equal(again, here)
