"""OME-Zarr as others write it: axes, versions, scenes, sizes, one plane; each refused or read, never guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_blockbuster import Job, segment
from napari_blockbuster.cli.main import main
from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import ImageReadError, ImageSource, ImageWarning, Scene, list_scenes, open_image
from napari_blockbuster.models import get_model

STACK = np.random.default_rng(1).integers(0, 60000, (4, 30, 40), dtype=np.uint16)


def axis(name: str, kind: str | None = "space", unit: str | None = "micrometer") -> dict[str, str]:
    return {"name": name} | ({"type": kind} if kind else {}) | ({"unit": unit} if unit and kind == "space" else {})


ZYX = [axis(name) for name in "zyx"]


def multiscale(*scales: Any, axes: Any = ZYX, **more: Any) -> dict[str, Any]:
    steps = [{"type": "scale", "scale": scale} for scale in scales]
    datasets = [{"path": str(i), "coordinateTransformations": [step]} for i, step in enumerate(steps)]
    return {"axes": axes, "datasets": datasets, **more}


def write(
    path: Path, said: dict[str, Any], *levels: np.ndarray, version: str = "0.5", omero: Any = None, **more: Any
) -> Path:
    v3 = version >= "0.5"
    attributes = {"multiscales": [said if v3 else {"version": version, **said}], **more}
    if omero is not None:
        attributes["omero"] = omero
    said_here = {"ome": {"version": version, **attributes}} if v3 else attributes
    zarr.create_group(str(path), zarr_format=3 if v3 else 2, attributes=said_here)
    for i, level in enumerate(levels or (STACK,)):
        options = {"shape": level.shape, "dtype": level.dtype, "chunks": level.shape, "zarr_format": 3 if v3 else 2}
        zarr.create_array(str(path / str(i)), **options)[...] = level
    return path


def pixels(source: ImageSource) -> np.ndarray:
    return source.read(Box((0,) * source.ndim, source.shape))


# ---------------------------------------------------------------------------------------------------------------- axes
@pytest.mark.parametrize(
    ("axes", "found"),
    [
        ([axis("channel", "channel"), axis("y"), axis("x")], "cyx"),
        ([axis("frame", "time"), axis("y"), axis("x")], "tyx"),
        ([axis("Z"), axis("Y"), axis("X")], "zyx"),
        ([axis("depth"), axis("height"), axis("width")], "zyx"),
        ([axis("c", None), axis("y", None), axis("x", None)], "cyx"),
        (["t", "y", "x"], "tyx"),
    ],
)
def test_axes_are_known_by_their_type_and_by_their_name(tmp_path: Path, axes: Any, found: str) -> None:
    path = write(tmp_path / "i.zarr", multiscale([2, 0.5, 0.5], axes=axes))
    source = open_image(path, channel=1 if "c" in found else None)
    assert source.layout.stored_axes == found
    np.testing.assert_array_equal(pixels(source), STACK[1] if "c" in found else STACK)


def test_axes_that_are_not_those_of_an_image(tmp_path: Path) -> None:
    path = write(tmp_path / "i.zarr", multiscale([1, 1, 1], axes=[axis("phase", "other"), axis("y"), axis("x")]))
    with pytest.raises(ImageReadError, match=r"names the axes phase \(other\), y .* Say which they are with axes="):
        open_image(path)
    assert open_image(path, axes="zyx").shape == STACK.shape


@pytest.mark.parametrize(
    "omero",
    [
        {},
        [],
        {"channels": None},
        {"channels": [None, {"label": "GFP"}]},
        {"channels": [{"color": "FF"}, {"label": "GFP"}]},
    ],
)
def test_channels_that_are_named_partly_or_not(tmp_path: Path, omero: Any) -> None:
    axes = [axis("c", "channel"), *ZYX]
    path = write(tmp_path / "i.zarr", multiscale([1, 2, 1, 1], axes=axes), np.stack([STACK, STACK + 1]), omero=omero)
    channel = "GFP" if isinstance(omero, dict) and omero.get("channels") else 1
    np.testing.assert_array_equal(pixels(open_image(path, channel=channel)), STACK + 1)


# ------------------------------------------------------------------------------------------------------------ versions
def test_old_versions_have_no_axes_or_no_sizes(tmp_path: Path) -> None:
    five = STACK[None, None]
    for version, data in (("0.1", five), ("0.2", five)):
        path = write(tmp_path / version, {"datasets": [{"path": "0"}]}, data, version=version)
        source = open_image(path)
        assert (source.axes, source.scale) == (tuple("tzyx"), (1.0,) * 4)
    path = write(tmp_path / "0.3", {"axes": ["z", "y", "x"], "datasets": [{"path": "0"}]}, version="0.3")
    np.testing.assert_array_equal(pixels(open_image(path)), STACK)


def version_06(step: dict[str, Any]) -> dict[str, Any]:
    systems = [{"name": "array", "axes": []}, {"name": "physical", "axes": ZYX}]
    step = {"input": "0", "output": "physical", **step}
    return {"coordinateSystems": systems, "datasets": [{"path": "0", "coordinateTransformations": [step]}]}


def test_version_06_is_read_or_refused(tmp_path: Path) -> None:
    scale = {"type": "scale", "scale": [2, 0.5, 0.5]}
    moved = {"type": "translation", "translation": [1, 2, 3]}
    path = write(
        tmp_path / "a.zarr", version_06({"type": "sequence", "transformations": [scale, moved]}), version="0.6"
    )
    source = open_image(path)
    assert (source.scale, source.translation, source.units) == ((2, 0.5, 0.5), (1, 2, 3), ("micrometer",) * 3)
    affine = {"type": "affine", "affine": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]}
    with pytest.raises(ImageReadError, match=r"is OME-Zarr 0\.6 with a transformation of type 'affine'"):
        open_image(write(tmp_path / "b.zarr", version_06(affine), version="0.6.dev2"))
    with pytest.raises(ImageReadError, match=r"0\.6 whose levels do not share one coordinate system"):
        open_image(write(tmp_path / "c.zarr", multiscale([2, 0.5, 0.5]), version="0.6"))
    with pytest.raises(ImageReadError, match=r"is OME-Zarr 0\.9. Versions 0\.1 to 0\.6 can be read"):
        open_image(write(tmp_path / "d.zarr", multiscale([2, 0.5, 0.5]), version="0.9"))


# -------------------------------------------------------------------------------------------------------------- scenes
def write_series(root: Path, names: list[str], listed: bool, version: str = "0.4") -> None:
    v3 = version >= "0.5"
    layout = {"bioformats2raw.layout": 3}
    zarr.create_group(str(root), zarr_format=3 if v3 else 2, attributes={"ome": layout} if v3 else layout)
    if listed:
        series = {"series": names}
        zarr.create_group(str(root / "OME"), zarr_format=3 if v3 else 2, attributes={"ome": series} if v3 else series)
    for i, name in enumerate(names):
        write(root / name, multiscale([2, 0.5, 0.5]), STACK + i, version=version)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("names", "listed"), [(["left", "right"], True), (["0", "1"], True), (["0", "1"], False)])
def test_series_of_bioformats2raw(
    tmp_path: Path, version: str, names: list[str], listed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "i.zarr"
    write_series(root, names, listed, version)
    assert list_scenes(root) == [Scene(name) for name in names]
    with pytest.warns(ImageWarning, match=rf"holds 2 images. '{names[0]}' is read\. .*: {names[0]}, {names[1]}"):
        np.testing.assert_array_equal(pixels(open_image(root)), STACK)
    for scene in (1, names[1]):
        np.testing.assert_array_equal(pixels(open_image(root, scene=scene)), STACK + 1)
    with pytest.raises(ValueError, match="there is no scene 'x' in"):
        open_image(root, scene="x")
    assert main(["info", str(root)]) == 0
    assert "2 images: 0" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------------------- sizes
@pytest.mark.parametrize("wrong", [0, -2, None, "two", 1e9, float("nan"), float("inf")])
def test_a_size_that_cannot_be_is_unknown(tmp_path: Path, wrong: Any) -> None:
    path = write(tmp_path / "i.zarr", multiscale([wrong, 0.5, 0.5]))
    with pytest.warns(ImageWarning, match=r"i\.zarr: voxel size unknown along z .*. Used instead: 0\.5 micrometer"):
        source = open_image(path)
    assert (source.scale, source.units) == ((0.5, 0.5, 0.5), (None, "micrometer", "micrometer"))


def test_a_scale_of_the_wrong_length(tmp_path: Path) -> None:
    axes = [axis("c", "channel"), *ZYX]
    path = write(tmp_path / "a.zarr", multiscale([2, 0.5, 0.5], axes=axes), STACK[None])
    with pytest.warns(ImageWarning, match=r"a scale has 3 numbers \[2, 0\.5, 0\.5\] for 4 axes .* taken for z, y, x"):
        assert open_image(path).scale == (2, 0.5, 0.5)
    path = write(tmp_path / "b.zarr", multiscale([2, 0.5]))
    with pytest.warns(ImageWarning, match=r"a scale has 2 numbers \[2, 0\.5\] for 3 axes .* It is ignored"):
        assert open_image(path).scale == (1, 1, 1)


def test_units_are_brought_to_one_and_places_with_them(tmp_path: Path) -> None:
    axes = [axis("z", unit="micrometer"), axis("y", unit="nanometer"), axis("x", unit="nanometer")]
    said = multiscale([1, 100, 100], axes=axes)
    said["datasets"][0]["coordinateTransformations"].append({"type": "translation", "translation": [5, 1000, 2000]})
    source = open_image(write(tmp_path / "i.zarr", said))
    assert source.scale == pytest.approx((1000, 100, 100))
    assert source.translation == pytest.approx((5000, 1000, 2000))
    assert source.units == ("nanometer",) * 3


def test_a_size_of_one_without_a_unit_does_not_stand_beside_sizes(tmp_path: Path) -> None:
    path = write(tmp_path / "i.zarr", multiscale([1.0, 0.1, 0.1], axes=[axis("z", unit=None), *ZYX[1:]]))
    with pytest.warns(ImageWarning, match="voxel size unknown along z"):
        assert open_image(path).scale == (0.1, 0.1, 0.1)


def test_the_users_sizes_count_at_every_level(tmp_path: Path) -> None:
    path = write(tmp_path / "i.zarr", multiscale([2, 0.5, 0.5], [2, 1, 1]), STACK, STACK[:, ::2, ::2])
    assert open_image(path, spacing=(4, 0.3, 0.3)).scale == (4, 0.3, 0.3)
    assert open_image(path, spacing=(4, 0.3, 0.3), level=1).scale == (4, 0.6, 0.6)
    assert open_image(path, spacing=(None, 0.3, 0.3)).scale == (2, 0.3, 0.3)
    assert open_image(path, spacing=0.3).units == ("micrometer",) * 3
    for wrong, text in (((4, 0.3), "has 2 numbers"), (0, "above 0"), ((1, 1, -1), "above 0"), ("1", "is '1'")):
        with pytest.raises(ValueError, match=f"spacing {text}|spacing is .*{text}"):
            open_image(path, spacing=wrong)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------------------- one plane
def blobs() -> np.ndarray:
    """Twenty-five discs of 16 voxels, well apart."""
    y, x = np.mgrid[:200, :200]
    discs = ((y % 40 - 20) ** 2 + (x % 40 - 20) ** 2) <= 64
    return np.random.default_rng(0).integers(90, 110, discs.shape).astype(np.uint16) + 900 * discs.astype(np.uint16)


@pytest.mark.parametrize("size", [0.25, 2.024, 8.096])
def test_an_axis_of_one_plane_has_no_say(tmp_path: Path, size: float) -> None:
    """Slides are written with five axes, and with 1.0 along z whatever x and y are."""
    plane, model = blobs(), get_model("voronoi-otsu", diameter=16)
    axes = [axis("t", "time"), axis("c", "channel"), *ZYX]
    path = write(tmp_path / "i.zarr", multiscale([1, 1, 1.0, size, size], axes=axes), plane[None, None, None])
    source = open_image(path)
    assert source.scale == (1.0, 1.0, size, size)
    assert set(source.spacing) == {size}
    flat = segment(plane, model, tmp_path / "flat.zarr", tile_shape=100, progress=False)
    five = segment(path, model, tmp_path / "five.zarr", tile_shape=(1, 100, 100), progress=False)
    assert five.n_objects == flat.n_objects == 25
    np.testing.assert_array_equal(five.labels.compute()[0, 0] > 0, flat.labels.compute() > 0)
    job = Job.create(path, model, tmp_path / "again.zarr")
    assert job.grid.halo[1] == 0


# ------------------------------------------------------------------------------------------------------------- resuming
def halves(tile: np.ndarray) -> np.ndarray:
    return (tile > 30000).astype(np.uint8)


def test_scene_and_sizes_are_kept_in_the_job(tmp_path: Path) -> None:
    write_series(tmp_path / "i.zarr", ["0", "1"], True)
    options: dict[str, Any] = {"tile_shape": (4, 15, 20), "halo": 0}
    job = Job.create(tmp_path / "i.zarr", "threshold", tmp_path / "o.zarr", scene=1, spacing=(3, 0.2, 0.2), **options)
    events = job.stage()
    next(events)
    job.cancel()
    list(events)
    again = Job.open(job.folder)
    assert again.source is not None
    assert again.source.scale == (3, 0.2, 0.2)
    np.testing.assert_array_equal(pixels(again.source), STACK + 1)
    with pytest.raises(RuntimeError, match="spacing"):
        Job.create(tmp_path / "i.zarr", "threshold", tmp_path / "o.zarr", scene=1, spacing=1, **options)


def test_scene_and_sizes_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "i.zarr", ["left", "right"], True)
    words = [
        "segment",
        str(tmp_path / "i.zarr"),
        "--model",
        "threshold",
        "-o",
        str(tmp_path / "o.zarr"),
        "--workers",
        "0",
    ]
    assert main([*words, "--scene", "right", "--spacing", "3", "0.2", "0.2", "--quiet"]) == 0
    said = zarr.open_group(tmp_path / "o.zarr", mode="r").attrs["ome"]["multiscales"][0]["datasets"][0]
    assert said["coordinateTransformations"][0]["scale"] == [3, 0.2, 0.2]
    assert main(["info", str(tmp_path / "i.zarr")]) == 0
    shown = capsys.readouterr()
    assert "2 images: 0 (left), 1 (right)" in shown.out
    write(tmp_path / "z.zarr", multiscale([0, 0.5, 0.5]))
    assert main(["info", str(tmp_path / "z.zarr")]) == 0
    assert capsys.readouterr().err.startswith("warning: z.zarr: voxel size unknown along z")


# ------------------------------------------------------------------------------------------------ consolidated metadata
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_labels_are_found_through_consolidated_metadata(tmp_path: Path, version: str) -> None:
    path = write(tmp_path / "i.zarr", multiscale([2, 0.5, 0.5]), version=version)
    zarr.consolidate_metadata(str(path))
    segment(path, halves, path / "labels" / "cells", halo=0, progress=False)
    assert zarr.open_group(str(path), mode="r")["labels/cells/0"].shape == STACK.shape
    assert zarr.open_group(str(path), mode="r")["0"].shape == STACK.shape
