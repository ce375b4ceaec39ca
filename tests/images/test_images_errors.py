"""What is no image, or unclear, is refused in one sentence: the value, and what to do."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

from napari_blockbuster.images import ImageReadError, open_image, source_from_description

PLANE = np.zeros((20, 20), np.uint8)


def ome_zarr(path: Path, shapes: list[tuple[int, ...]], axes: str, **more: Any) -> Path:
    """An OME-Zarr of zeros."""
    datasets = [{"path": str(i), "coordinateTransformations": []} for i in range(len(shapes))]
    said = {"multiscales": [{"axes": [{"name": a} for a in axes], "datasets": datasets}], **more}
    zarr.create_group(str(path), attributes={"ome": {"version": "0.5", **said}})
    for i, shape in enumerate(shapes):
        zarr.create_array(str(path / str(i)), shape=shape, dtype="u1")
    return path


@pytest.fixture
def two_channels(tmp_path: Path) -> Path:
    labels = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    return ome_zarr(tmp_path / "i.zarr", [(2, 20, 20), (2, 10, 10)], "cyx", omero=labels)


def refuse(match: str, image: Any, error: type[Exception] = ValueError, **options: Any) -> None:
    """Opening raises one sentence that says `match`."""
    with pytest.raises(error, match=match) as caught:
        open_image(image, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


# --------------------------------------------------------------------------------------------------------------- paths
def test_nothing_there(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "such.zarr"
    wanted = re.escape(f"there is no image at {missing}. The nearest folder that exists is {tmp_path}")
    refuse(f"^{wanted}$", missing, FileNotFoundError)
    refuse("path is empty. Pass the path of", "")


def test_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    refuse(r"notes\.txt is a file but no TIFF. Images are OME-Zarr and zarr folders, and TIFF", tmp_path / "notes.txt")
    refuse(r"is not an image: it holds no zarr\.json, .*. Pass the folder of", tmp_path, ImageReadError)
    (tmp_path / "bad.tif").write_text("no image")
    refuse(r"bad\.tif cannot be read as TIFF \(not a TIFF file", tmp_path / "bad.tif", ImageReadError)
    refuse("not ftp://", "ftp://somewhere/i.zarr")


def test_a_group_that_is_no_image(tmp_path: Path) -> None:
    zarr.create_group(str(tmp_path / "g"))
    zarr.create_array(str(tmp_path / "g" / "raw"), shape=(4, 4), dtype="u1")
    refuse(r"no multiscales metadata\). Inside it are .*/g/raw: pass the path of one array", tmp_path / "g")
    refuse(r"this is a zarr group \(file:.*. Pass its path, or one of its arrays", zarr.open_group(tmp_path / "g"))
    zarr.create_group(str(tmp_path / "p"), attributes={"ome": {"version": "0.5", "plate": {}}})
    refuse("is a plate of many images. Pass the path of one field, as .*/p/A/1/0", tmp_path / "p")


def test_damaged_metadata(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "i.zarr", [(20, 20)], "yx")
    for text in ("{", "[]"):
        (path / "zarr.json").write_text(text)
        refuse(r"zarr\.json is damaged: it is not", path, ImageReadError)
    said = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"multiscales": [{"axes": []}]}}}
    (path / "zarr.json").write_text(json.dumps(said))
    refuse("multiscales metadata is damaged", path, ImageReadError)
    path = ome_zarr(tmp_path / "j.zarr", [(20, 20)], "yx")
    (path / "0" / "zarr.json").unlink()
    refuse(r"j\.zarr/0 cannot be opened as a zarr array", path, ImageReadError)


@pytest.mark.parametrize(("tag", "code", "name"), [("Compression", 5, "LZW"), ("Predictor", 3, "FLOATINGPOINT")])
def test_a_codec_that_is_not_installed(tmp_path: Path, tag: str, code: int, name: str) -> None:
    """As many microscopes use: refused when the image is opened, not at its first tile."""
    if importlib.util.find_spec("imagecodecs"):
        pytest.skip("imagecodecs is installed")
    tifffile.imwrite(tmp_path / "i.tif", PLANE, compression="zlib", predictor=True)
    with tifffile.TiffFile(tmp_path / "i.tif", mode="r+b") as file:
        file.pages[0].tags[tag].overwrite(code)
    refuse(rf"i\.tif is compressed with {name}, .*: pip install imagecodecs", tmp_path / "i.tif", ImageReadError)


# ------------------------------------------------------------------------------------------------- channels and levels
def test_channels(two_channels: Path) -> None:
    refuse(r"i\.zarr has 2 channels. Say which one .*channel= \(--channel\): 0 \(DAPI\), 1 \(GFP\)$", two_channels)
    for wrong in (2, -1, "RFP", "", "1.0", "²"):
        listed = rf"there is no channel {wrong!r} in .*i\.zarr. Its channels are 0 \(DAPI\), 1 \(GFP\)$"
        refuse(listed, two_channels, channel=wrong)
    assert [open_image(two_channels, channel=c).layout.channel for c in (1, "1", "GFP", np.int64(1))] == [1] * 4
    refuse("channel is 1, but this array has no channel axis. Leave it out", PLANE, channel=1)
    assert open_image(PLANE, channel="0").shape == open_image(PLANE, channel=0).shape == PLANE.shape


def test_channels_of_one_name(tmp_path: Path) -> None:
    labels = {"channels": [{"label": "DAPI"}, {"label": "DAPI"}]}
    path = ome_zarr(tmp_path / "i.zarr", [(2, 20, 20)], "cyx", omero=labels)
    refuse("several channels called 'DAPI'. Say which by number: 0", path, channel="DAPI")


def test_channels_of_an_ome_tiff_where_only_one_has_a_name(tmp_path: Path) -> None:
    """The name belongs to the second channel, though it is the first name in the file."""
    stack = np.stack([PLANE, PLANE + 1])
    tifffile.imwrite(tmp_path / "i.ome.tif", stack, metadata={"axes": "CYX", "Channel": {"Name": ["", "GFP"]}})
    assert open_image(tmp_path / "i.ome.tif", channel="GFP").layout.channel == 1
    refuse(r"2 channels. Say which one .*: 0, 1 \(GFP\)$", tmp_path / "i.ome.tif")


def test_levels(two_channels: Path, tmp_path: Path) -> None:
    for wrong in (2, -1):
        listed = rf"there is no level {wrong} in .*. Its levels are 0: 2 x 20 x 20; 1: 2 x 10 x 10$"
        refuse(listed, two_channels, channel=0, level=wrong)
    refuse("level is 1, but an array has no levels. Pass the array of that level", PLANE, level=1)
    refuse("level is 1, but .*/1 is a single array without levels", two_channels / "1", level=1)
    tifffile.imwrite(tmp_path / "i.tif", PLANE)
    refuse("there is no level 1 in .*. Its levels are 0: 20 x 20$", tmp_path / "i.tif", level=1)


# ----------------------------------------------------------------------------------------------------- types and axes
@pytest.mark.parametrize("wrap", [np.asarray, lambda x: da.from_array(x), zarr.array], ids=["numpy", "dask", "zarr"])
def test_pixels_that_are_no_numbers(wrap: Any) -> None:
    refuse(r"pixels of type complex128. Images are of integers.*. Pass its magnitude, abs\(image\)", wrap(PLANE * 1j))
    refuse("pixels of type datetime64", wrap(PLANE.astype("M8[s]")))


def test_pixels_that_are_no_numbers_on_disk(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a"), shape=(4, 4), dtype="c8")
    refuse("/a has pixels of type complex64", tmp_path / "a")


@pytest.mark.parametrize("what", [None, 5, {"a": 1}, object(), [[1], [1, 2]], np.float32(3)], ids=lambda w: repr(w)[:9])
def test_no_array_at_all(what: Any) -> None:
    refuse(f"{type(what).__name__} is not an image. Pass a path, or a zarr, dask or numpy array", what)


def test_axes_that_nobody_named(tmp_path: Path) -> None:
    stack = np.zeros((4, 4, 4, 4), np.uint8)
    refuse(r"this array has 4 axes of extent \(4, 4, 4, 4\) and does not name them. Say .* axes='czyx'", stack)
    zarr.create_array(str(tmp_path / "a"), shape=stack.shape, dtype="u1")
    refuse(r"/a has 4 axes .* Say .* axes='czyx'", tmp_path / "a")
    refuse(r"this array has 6 axes of extent .*. Images have 1 to 5", np.zeros((2,) * 6))
    refuse("axes='wzyx': use each of t, c, z, y, x at most once", stack, axes="wzyx")
    refuse("axes='zzyx': use each of", stack, axes="zzyx")
    refuse(r"axes='zyx' names 3 axes, but this array has 4 of extent \(4, 4, 4, 4\)", stack, axes="zyx")
    refuse("axes='tc' of this array: at least one of z, y, x is needed", PLANE, axes="tc")


def test_time_after_space(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "i.zarr", [(4, 3, 20, 20)], "ztyx")
    refuse(r"i\.zarr has its axes in the order 'ztyx', but time must come before .*. Pass it as", path)


def test_color(tmp_path: Path) -> None:
    color = np.zeros((20, 20, 3), np.uint8)
    refuse(r"looks like a color image. Say axes='yxc' and a channel, or axes='zyx' if it is a stack", color)
    assert open_image(color, axes="zyx").shape == (20, 20, 3)
    tifffile.imwrite(tmp_path / "i.tif", color, photometric="rgb")
    refuse(r"i\.tif has 3 channels. Say which one", tmp_path / "i.tif")


def test_empty() -> None:
    refuse(r"this array is empty: its shape is \(0, 4\)", np.zeros((0, 4)))
    refuse(r"this dask array is empty: its shape is \(4, 0\)", da.zeros((4, 0)))
    refuse(r"this zarr array is empty: its shape is \(0, 4\)", zarr.zeros((0, 4)))


def test_a_dask_array_of_unknown_shape() -> None:
    unknown = da.from_array(PLANE)[da.from_array(PLANE[:, 0]) == 0]
    refuse(r"unknown shape \(nan, 20\)\. Call its compute_chunk_sizes\(\) first", unknown)


# --------------------------------------------------------------------------------------------------------- descriptions
def test_opening_again_what_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"this image was in memory\. Pass it again"):
        source_from_description(open_image(PLANE).describe())
    tifffile.imwrite(tmp_path / "i.tif", PLANE)
    described = json.loads(json.dumps(open_image(tmp_path / "i.tif").describe()))
    (tmp_path / "i.tif").unlink()
    with pytest.raises(FileNotFoundError, match=r"i\.tif is not there any more"):
        source_from_description(described)
