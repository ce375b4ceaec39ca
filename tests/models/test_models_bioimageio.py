"""bioimage.io: settings and post-processing without the extra; with it, its library on small packages."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_data import Annotated, ArraySource, drawn, f1, ids, real, tiled
from scipy import ndimage

from napari_blockbuster import segment
from napari_blockbuster.models import get_model, list_models, model_from_settings
from napari_blockbuster.models.bioimageio.labels import from_boundaries, from_foreground, from_labels
from napari_blockbuster.models.bioimageio.model import BioImageIO
from napari_blockbuster.models.bioimageio.package import Geometry, is_address, suggested_tile

find_spec = importlib.util.find_spec


def available() -> bool:
    """Whether the extra is installed; `bioimageio` alone may be a namespace of something else."""
    return all(find_spec(name) is not None for name in ("bioimageio", "torch", "xarray")) and bool(
        find_spec("bioimageio.core")
    )


needs_extra = pytest.mark.skipif(not available(), reason="needs the extra bioimageio")


def write_package(folder: Path, **how: Any) -> Path:
    """As `small_bioimageio.write_package`, which imports torch."""
    import small_bioimageio

    return small_bioimageio.write_package(folder, **how)


def prepared(image: Annotated, path: Path, **settings: Any) -> BioImageIO:
    settings.setdefault("diameter", image.diameter)
    settings.setdefault("output", "foreground")
    return BioImageIO(weights=str(path), **settings).prepare(ArraySource(image.pixels, image.spacing))


# ------------------------------------------------------------------------------------------------- without the package
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def find(name: str, package: str | None = None) -> Any:
        return None if name.startswith("bioimageio") else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    info = list_models()["bioimageio"]
    assert not info.usable
    assert info.summary == "needs: pip install 'napari-blockbuster[bioimageio]'"
    model = model_from_settings({"model": "bioimageio", "weights": "affable-shark"})
    with pytest.raises(ImportError, match=r"needs: pip install 'napari-blockbuster\[bioimageio\]'"):
        model.prepare(ArraySource(np.zeros((64, 64), np.uint8)))


def test_nothing_is_imported_before_its_time() -> None:
    code = (
        "import sys, numpy as np, napari_blockbuster as n; from napari_blockbuster.models import *\n"
        "from model_data import ArraySource\n"
        "list_models(); m = get_model('bioimageio'); m.settings(); m.suggest(ArraySource(np.zeros((64, 64))))\n"
        "print(sorted({'torch', 'bioimageio.core', 'bioimageio.spec', 'xarray'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert run.stdout.strip() == "[]"


def test_settings_explain_themselves_and_go_to_json_and_back() -> None:
    for name, field in BioImageIO.model_fields.items():
        assert len(field.description or "") > 15, name
        assert isinstance(field.json_schema_extra, dict)
        assert "advanced" in field.json_schema_extra
    json.dumps(BioImageIO.model_json_schema())
    model = BioImageIO(weights="x.zip", output="boundary", statistics=(1.5, 2), spacing=(1, 1), sha256="00")
    assert model_from_settings(json.loads(json.dumps(model.settings()))) == model


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"diameter": 1}, r"^bioimageio: diameter is 1. It must be 2 to 2000$"),
        ({"output": "cells"}, r"output is 'cells'. It should be 'auto', 'labels', 'foreground' or 'boundary'"),
        ({"weigths": "x.zip"}, r"did you mean 'weights'\?"),
    ],
)
def test_mistakes_are_one_clear_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_model("bioimageio", **settings)


def test_paths_and_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_address("https://example.org/model.zip")
    assert is_address("10.5281/zenodo.5764892")
    assert is_address("affable-shark")
    (tmp_path / "affable-shark").mkdir()
    for local in ("affable-shark", "model.zip", "./folder", "/data/model", "~/rdf.yaml"):
        assert not is_address(local)


def test_labels_of_maps() -> None:
    foreground, boundary = np.zeros((12, 30)), np.zeros((12, 30))
    foreground[2:10, 2:28] = 0.9
    # Two objects with a boundary between them, and a thin one that is boundary all over.
    boundary[2:10, 14:16] = 0.8
    foreground[11, 5:9], boundary[11, 5:9] = 0.9, 0.9
    assert len(ids(from_foreground(foreground, 0.5))) == 2
    labels = from_boundaries(foreground, boundary, 0.5, 0.5)
    assert len(ids(labels)) == 3
    np.testing.assert_array_equal(labels > 0, foreground > 0.5)
    assert labels[5, 5] != labels[5, 25]
    assert len(set(labels[11, 5:9])) == 1
    np.testing.assert_array_equal(from_labels(np.array([0.0, 2.0, 7.0])), [0, 2, 7])
    for wrong in ([0.5, 1.0], [-1.0, 1.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="is not an instance mask"):
            from_labels(np.array(wrong))


@pytest.mark.parametrize("step", [0, 16])
@pytest.mark.parametrize("shape", [(5000, 5000), (300, 40)])
def test_the_read_box_of_a_suggested_tile_is_what_the_model_takes(step: int, shape: tuple[int, int]) -> None:
    geometry = Geometry(("batch", "channel", "y", "x"), (256, 256), (step, step))
    tile, halo = suggested_tile(geometry, shape, (48, 48), 1024)
    assert all(min(48, 85) <= h for h in halo)
    for t, h, n in zip(tile, halo, shape, strict=True):
        read = t + 2 * h
        assert t <= n
        assert t == n or (read == 256 if step == 0 else (read - 256) % 16 == 0)
    geometry.fitting(tuple(min(t + 2 * h, n) for t, h, n in zip(tile, halo, shape, strict=True)))


# --------------------------------------------------------------------------------------------------- with the package
def foreground_by_hand(image: Annotated) -> np.ndarray:
    """What the small network says, computed without torch and without bioimage.io's library."""
    low, high = np.quantile(image.pixels, (0.01, 0.998))
    scaled = (image.pixels - low) / (high - low + 1e-6)
    return 1 / (1 + np.exp(-20 * (ndimage.uniform_filter(scaled, 5, mode="nearest") - 0.13)))


def by_hand(image: Annotated, threshold: float = 0.5) -> np.ndarray:
    """Components of the foreground."""
    return ndimage.label(foreground_by_hand(image) > threshold)[0]


@needs_extra
@pytest.mark.parametrize("zipped", [False, True])
def test_a_real_image_gives_what_the_network_says(tmp_path: Path, zipped: bool) -> None:
    image = real("dsb")
    model = prepared(image, write_package(tmp_path / "small", zipped=zipped))
    # Percentiles are those that the package asks for, of the whole image.
    assert model.statistics == pytest.approx(tuple(np.quantile(image.pixels, (0.01, 0.998))))
    labels = model.load()(image.pixels)
    assert labels.shape == image.pixels.shape
    assert len(ids(labels)) > 40
    assert f1(labels, by_hand(image), 0.99) == 1


@needs_extra
def test_boundaries_part_what_touches(tmp_path: Path) -> None:
    image = real("dsb")
    how = {"output": "boundary", "boundary_threshold": 0.1}
    labels = prepared(image, write_package(tmp_path / "boundary", kind="boundary"), **how).load()(image.pixels)
    foreground = foreground_by_hand(image)
    expected = from_boundaries(foreground, ndimage.maximum_filter(1 - foreground, 5, mode="nearest"), 0.5, 0.1)
    # Floats differ in their last digits, so a pixel on a watershed may fall to the other side.
    assert f1(labels, expected, 0.95) >= 0.99
    # Some components have necks, where the boundaries of both sides meet.
    assert len(ids(labels)) > len(ids(by_hand(image)))


@needs_extra
def test_tiled_equals_untiled(tmp_path: Path) -> None:
    image = real("dsb")
    model = prepared(image, write_package(tmp_path / "small"))
    run = model.load()
    whole = run(image.pixels)
    parts = tiled(run, image.pixels, (256, 256), model.suggest(ArraySource(image.pixels)).halo)
    assert f1(parts, whole) >= 0.98


@needs_extra
def test_on_a_cluster(client: Any, tmp_path: Path) -> None:
    image = real("dsb")
    path = write_package(tmp_path / "small", zipped=True)
    result = segment(
        image.pixels,
        BioImageIO(weights=str(path), output="foreground", diameter=24),
        tmp_path / "labels.ome.zarr",
        tile_shape=(128, 128),
        merge="touch",
        client=client,
        progress=False,
    )
    assert not result.failed_tiles
    labels = np.asarray(result.labels)
    whole = prepared(image, path).load()(image.pixels)
    # Components over a global threshold, merged by touch, are exactly those of the whole image.
    assert f1(labels, whole) == 1
    assert result.n_objects == len(ids(whole))
    assert result.provenance["prepared"]["sha256"] == prepared(image, path).sha256


@needs_extra
def test_an_instance_mask_is_taken_as_it_is(tmp_path: Path) -> None:
    path = write_package(tmp_path / "labels", kind="labels")
    pixels = np.zeros((64, 64), np.uint16)
    pixels[:, :32] = 1000
    labels = BioImageIO(weights=str(path)).prepare(ArraySource(pixels)).load()(pixels)
    assert len(ids(labels)) == 8
    assert not labels[:, 32:].any()


@needs_extra
def test_stacks(tmp_path: Path) -> None:
    image = drawn((24, 64, 72), 16, 0.1, 36)
    model = prepared(image, write_package(tmp_path / "stack", ndim=3), threshold=0.6)
    labels = model.load()(image.pixels)
    assert labels.shape == image.pixels.shape
    assert len(ids(labels)) > 1
    assert f1(labels, by_hand(image, 0.6), 0.99) == 1
    with pytest.raises(ValueError, match="is for images of 3 spatial axes, and this one has 2"):
        prepared(drawn((64, 64), 16, 0.2, 1), tmp_path / "stack")


@needs_extra
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "bool"])
def test_the_tile_is_left_as_it_is(dtype: str, tmp_path: Path) -> None:
    image = drawn((96, 130), 20, 0.3, 31)
    pixels = (image.pixels > 300) if dtype == "bool" else (image.pixels / 16).astype(dtype)
    before = pixels.copy()
    pixels.flags.writeable = False
    run = prepared(image._replace(pixels=pixels), write_package(tmp_path / "small")).load()
    first = run(pixels)
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(run(pixels), first)


@needs_extra
def test_tiles_agree_and_settings_do_not_leak(tmp_path: Path) -> None:
    image = drawn((128, 256), 22, 0.3, 33)
    rng = np.random.default_rng(0)
    pixels = image.pixels.copy()
    pixels[:, 128:] = rng.normal(100, 5, (128, 128))
    path = write_package(tmp_path / "small")
    normalised = [{"id": "zero_mean_unit_variance", "kwargs": {"axes": ["channel", "y", "x"]}}]
    other = write_package(tmp_path / "other", preprocessing=normalised)
    runs = [
        prepared(image._replace(pixels=pixels), path).load(),
        prepared(image._replace(pixels=pixels), other, threshold=0.9).load(),
    ]
    # A tile of noise has no objects: its own percentiles would make some.
    assert all(len(ids(run(pixels[:, :120]))) > 3 and not run(pixels[:, 140:]).any() for run in runs)
    alone = [run(pixels) for run in runs]
    assert not np.array_equal(*alone)
    found: dict[int, list[np.ndarray]] = {0: [], 1: []}
    threads = [threading.Thread(target=lambda i=i: found[i].extend(runs[i](pixels) for _ in range(3))) for i in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, labels in found.items():
        assert len(labels) == 3
        assert all(np.array_equal(one, alone[i]) for one in labels)


@needs_extra
def test_sizes_that_the_model_takes(tmp_path: Path) -> None:
    image = drawn((200, 200), 20, 0.3, 37)
    run = prepared(image, write_package(tmp_path / "small")).load()
    for shape in ((1, 90), (90, 1), (3, 200), (1, 1)):
        assert run(image.pixels[: shape[0], : shape[1]]).shape == shape
    fixed = write_package(tmp_path / "fixed", size=96)
    model = prepared(image, fixed)
    tile, halo = model.suggest(ArraySource(image.pixels))
    assert tile is not None
    assert all(t + 2 * h == 96 for t, h in zip(tile, halo, strict=True))
    run = model.load()
    assert run(image.pixels[:96, :50]).shape == (96, 50)
    with pytest.raises(
        ValueError, match=r"has \(200, 200\) voxels, and the model takes at most \(96, 96\). Use smaller"
    ):
        run(image.pixels)


@needs_extra
def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    source = ArraySource(np.zeros((64, 64), np.uint8))

    def refuse(message: str, path: Path | str, **settings: Any) -> None:
        with pytest.raises((ValueError, OSError), match=message):
            BioImageIO(weights=str(path), **settings).prepare(source)

    small = write_package(tmp_path / "small")
    refuse("does not say how they become objects. Set output to labels, foreground or boundary", small)
    refuse("output has 1 channel, so there is no channel 1", small, output="boundary")
    colors = write_package(tmp_path / "rgb", channels=3)
    refuse("is for images of 3 channels, and 1 was chosen", colors, output="foreground")
    own = [{"id": "scale_range", "kwargs": {"axes": ["channel", "y", "x"], "max_percentile": 99}}]
    measured = write_package(tmp_path / "measured", postprocessing=own)
    refuse(
        "measures the quantile of its output 'found', which differs from tile to tile", measured, output="foreground"
    )
    (tmp_path / "other.yaml").write_text("type: dataset")
    refuse("its description is not that of a model", tmp_path / "other.yaml")
    refuse(r"there is no bioimage.io model at .*none\.zip", tmp_path / "none.zip")
    (tmp_path / "empty").mkdir()
    refuse("has no description of a model", tmp_path / "empty")
    refuse("needs the setting 'weights'", "")
    refuse("are not those of this run", small, output="foreground", sha256="00")
    (tmp_path / "small" / "weights.pt").unlink()
    refuse("is not a model that bioimageio can read", small, output="foreground")
    with pytest.raises(RuntimeError, match="is not prepared: spacing, statistics, sha256"):
        BioImageIO(weights=str(small)).load()


@needs_extra
@pytest.mark.parametrize("by_channel", [True, False])
def test_a_model_of_several_channels_gets_them_in_order(by_channel: bool, tmp_path: Path) -> None:
    image = drawn((96, 140), 12, 0.3, 8)
    other = np.random.default_rng(1).integers(0, 9000, image.pixels.shape).astype(image.pixels.dtype)
    colors = np.stack([other, other[::-1], image.pixels], -1)
    axes = ["y", "x"] if by_channel else ["channel", "y", "x"]
    scaling = [{"id": "scale_range", "kwargs": {"axes": axes, "min_percentile": 1, "max_percentile": 99.8}}]
    three = BioImageIO(
        weights=str(write_package(tmp_path / "three", channels=3, preprocessing=scaling)), output="foreground"
    )
    assert three.channel_range() == (3, 3)
    ready = three.prepare(ArraySource(colors, n_channels=3))
    assert len(ready.statistics) == (6 if by_channel else 2)
    one = BioImageIO(weights=str(write_package(tmp_path / "one")), output="foreground")
    if by_channel:
        alone = one.prepare(ArraySource(image.pixels))
        assert ready.statistics[2::3] == alone.statistics
    else:
        alone = one.model_copy(update={"spacing": (1, 1), "statistics": ready.statistics, "sha256": None})
        alone = alone.model_copy(update={"sha256": one.prepare(ArraySource(image.pixels)).sha256})
    expected = alone.load()(image.pixels)
    np.testing.assert_array_equal(ready.load()(colors), expected)
    result = segment(colors, three, tmp_path / "out.zarr", axes="yxc", progress=False)
    np.testing.assert_array_equal(np.asarray(result.labels) > 0, expected > 0)


@needs_extra
def test_an_address_that_is_not_there_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"no bioimage\.io model could be downloaded from there"):
        BioImageIO(weights="http://127.0.0.1:9/none.zip").prepare(ArraySource(np.zeros((64, 64), np.uint8)))
