"""Every kind of image: its pixels, axes and scale, before and after it was pickled."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import ImageSource, open_image, source_from_description

RNG = np.random.default_rng(3)
STACK = RNG.integers(0, 60000, (13, 37, 41), dtype=np.uint16)
FILM = RNG.integers(0, 255, (3, 2, 5, 37, 41), dtype=np.uint8)
CHANNELS = ["DAPI", "GFP"]


@dataclass
class Case:
    """An image on disk or in memory, what to ask of it, and what must come out."""

    image: Any
    truth: np.ndarray
    axes: str
    options: dict[str, Any]
    scale: tuple[float, ...] | None = None
    units: tuple[str | None, ...] | None = None


CASES: dict[str, Callable[[Path], Case]] = {}


def case(function: Callable[[Path], Case]) -> Callable[[Path], Case]:
    CASES[function.__name__] = function
    return function


# ------------------------------------------------------------------------------------------------------------ OME-Zarr
def write_ome_zarr(
    path: Path, data: np.ndarray, version: str, axes: str = "zyx", n_levels: int = 3
) -> list[np.ndarray]:
    """An OME-Zarr image of 2 x 0.5 x 0.5 µm voxels, with named channels; the levels."""
    v2 = version == "0.4"
    step = (..., slice(None, None, 2), slice(None, None, 2))
    levels = [data]
    while len(levels) < n_levels:
        levels.append(levels[-1][step])
    kinds = {"t": ("time", "second"), "c": ("channel", None)}
    named = []
    for name in axes:
        kind, unit = kinds.get(name, ("space", "micrometer"))
        named.append({"name": name, "type": kind} | ({"unit": unit} if unit else {}))
    datasets = []
    for i in range(n_levels):
        scale = [{"t": 5.0, "c": 1.0, "z": 2.0}.get(a, 0.5 * 2**i) for a in axes]
        moved = [0.0 if a in "tc" else 100.0 for a in axes]
        steps = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": moved}]
        datasets.append({"path": f"s{i}", "coordinateTransformations": steps})
    said = {"multiscales": [{"version": version, "axes": named, "datasets": datasets}]}
    said["omero"] = {"channels": [{"label": name} for name in CHANNELS]}
    zarr.create_group(str(path), zarr_format=2 if v2 else 3, attributes=said if v2 else {"ome": said})
    chunks = tuple(1 if a in "tc" else 16 for a in axes)
    for i, level in enumerate(levels):
        array = zarr.create_array(
            str(path / f"s{i}"),
            shape=level.shape,
            chunks=tuple(min(c, n) for c, n in zip(chunks, level.shape, strict=True)),
            dtype=level.dtype,
            zarr_format=2 if v2 else 3,
        )
        array[...] = level
    return levels


@case
def ome_zarr_04(folder: Path) -> Case:
    write_ome_zarr(folder / "i.ome.zarr", STACK, "0.4")
    micrometers = ("micrometer",) * 3
    return Case(folder / "i.ome.zarr", STACK, "zyx", {}, (2.0, 0.5, 0.5), micrometers)


@case
def ome_zarr_04_level_2(folder: Path) -> Case:
    levels = write_ome_zarr(folder / "i.ome.zarr", STACK, "0.4")
    return Case(str(folder / "i.ome.zarr"), levels[2], "zyx", {"level": 2}, (2.0, 2.0, 2.0))


@case
def ome_zarr_05_level_1(folder: Path) -> Case:
    levels = write_ome_zarr(folder / "i.ome.zarr", STACK, "0.5")
    return Case(folder / "i.ome.zarr", levels[1], "zyx", {"level": 1}, (2.0, 1.0, 1.0))


@case
def ome_zarr_05_time_and_channel_by_name(folder: Path) -> Case:
    levels = write_ome_zarr(folder / "i.ome.zarr", FILM, "0.5", "tczyx")
    units = ("second", "micrometer", "micrometer", "micrometer")
    options = {"channel": "GFP", "level": 1}
    return Case(folder / "i.ome.zarr", levels[1][:, 1], "tzyx", options, (5.0, 2.0, 1.0, 1.0), units)


@case
def ome_zarr_04_channel_by_number(folder: Path) -> Case:
    write_ome_zarr(folder / "i.ome.zarr", FILM[0], "0.4", "czyx", 1)
    return Case(folder / "i.ome.zarr", FILM[0, 1], "zyx", {"channel": 1}, (2.0, 0.5, 0.5))


@case
def bioformats2raw(folder: Path) -> Case:
    zarr.create_group(str(folder / "i.zarr"), zarr_format=2, attributes={"bioformats2raw.layout": 3})
    write_ome_zarr(folder / "i.zarr" / "0", STACK, "0.4")
    return Case(folder / "i.zarr", STACK, "zyx", {}, (2.0, 0.5, 0.5))


# ---------------------------------------------------------------------------------------------------------- plain zarr
def write_zarr(path: Path, data: np.ndarray, **options: Any) -> Path:
    array = zarr.create_array(str(path), shape=data.shape, dtype=data.dtype, **options)
    array[...] = data
    return path


@case
def zarr_v2_big_endian(folder: Path) -> Case:
    path = write_zarr(folder / "a.zarr", STACK.astype(">u2"), chunks=(5, 16, 16), zarr_format=2)
    return Case(path, STACK, "zyx", {}, (1, 1, 1), (None,) * 3)


@case
def zarr_v2_fortran_order(folder: Path) -> Case:
    path = write_zarr(folder / "a.zarr", STACK, chunks=(5, 16, 16), zarr_format=2, order="F")
    return Case(path, STACK, "zyx", {})


@case
def zarr_v2_filter_that_only_zarr_python_knows(folder: Path) -> Case:
    import numcodecs

    options = {"filters": numcodecs.Delta("<u2"), "zarr_format": 2}
    return Case(write_zarr(folder / "a.zarr", STACK, chunks=(5, 16, 16), **options), STACK, "zyx", {})


@case
def zarr_v3_two_axes(folder: Path) -> Case:
    return Case(write_zarr(folder / "a.zarr", STACK[0], chunks=(16, 16)), STACK[0], "yx", {})


@case
def zarr_v3_float_signal(folder: Path) -> Case:
    signal = RNG.random(1000).astype("f4")
    return Case(write_zarr(folder / "a.zarr", signal, chunks=(64,)), signal, "x", {})


@case
def zarr_v3_sharded_with_axes(folder: Path) -> Case:
    options = {"chunks": (4, 8, 8), "shards": (8, 16, 16), "dimension_names": ("T", "Y", "X")}
    return Case(write_zarr(folder / "a.zarr", STACK, **options), STACK, "tyx", {})


@case
def zarr_with_missing_chunks(folder: Path) -> Case:
    zarr.create_array(str(folder / "a.zarr"), shape=(40, 40), chunks=(16, 16), dtype="u2", fill_value=7)
    return Case(f"file://{folder / 'a.zarr'}", np.full((40, 40), 7, "u2"), "yx", {})


# ---------------------------------------------------------------------------------------------------------------- TIFF
@case
def tiff_pages(folder: Path) -> Case:
    tifffile.imwrite(folder / "a.tif", STACK, photometric="minisblack", metadata=None)
    return Case(folder / "a.tif", STACK, "zyx", {}, (1, 1, 1), (None,) * 3)


@case
def tiff_plane(folder: Path) -> Case:
    tifffile.imwrite(folder / "a.tiff", STACK[0])
    return Case(folder / "a.tiff", STACK[0], "yx", {})


@case
def tiff_strips_uneven(folder: Path) -> Case:
    tifffile.imwrite(folder / "a.tif", STACK[0], rowsperstrip=7, compression="zlib")
    return Case(folder / "a.tif", STACK[0], "yx", {})


@case
def tiff_one_page_holds_all(folder: Path) -> Case:
    tifffile.imwrite(folder / "a.tif", STACK, photometric="minisblack", truncate=True)
    return Case(folder / "a.tif", STACK, "zyx", {})


@case
def tiff_tiled_compressed(folder: Path) -> Case:
    options = {"photometric": "minisblack", "tile": (16, 16), "compression": "zlib", "predictor": True}
    tifffile.imwrite(folder / "a.tif", STACK, **options)
    return Case(folder / "a.tif", STACK, "zyx", {})


@case
def tiff_color(folder: Path) -> Case:
    color = RNG.integers(0, 255, (40, 50, 3), dtype=np.uint8)
    tifffile.imwrite(folder / "a.tif", color, photometric="rgb")
    return Case(folder / "a.tif", color[..., 1], "yx", {"channel": 1})


@case
def ome_tiff(folder: Path) -> Case:
    says = {"axes": "TCZYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 900, "TimeIncrement": 2.5}
    says |= {"PhysicalSizeZUnit": "nm", "PhysicalSizeXUnit": "µm", "Channel": {"Name": ["DAPI & co", "GFP"]}}
    tifffile.imwrite(folder / "a.ome.tif", FILM, metadata=says, photometric="minisblack")
    units = ("second", "micrometer", "micrometer", "micrometer")
    options = {"channel": "DAPI & co"}
    return Case(folder / "a.ome.tif", FILM[:, 0], "tzyx", options, (2.5, 0.9, 0.25, 0.25), units)


@case
def ome_tiff_pyramid(folder: Path) -> Case:
    with tifffile.TiffWriter(folder / "a.ome.tif", ome=True) as writer:
        options = {"tile": (16, 16), "photometric": "minisblack"}
        says = {"axes": "ZYX"}
        for axis, size in (("X", 0.5), ("Y", 0.5), ("Z", 2.0)):
            says |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "mm"}
        writer.write(STACK, subifds=1, metadata=says, **options)
        writer.write(STACK[:, ::2, ::2], subfiletype=1, **options)
    truth = STACK[:, ::2, ::2]
    return Case(folder / "a.ome.tif", truth, "zyx", {"level": 1}, (2.0, 1.0, 1.0), ("millimeter",) * 3)


@case
def imagej_hyperstack(folder: Path) -> Case:
    says = {"axes": "TZCYX", "spacing": 3.0, "unit": "um", "finterval": 1.5}
    film = FILM.swapaxes(1, 2)
    tifffile.imwrite(folder / "a.tif", film, imagej=True, resolution=(4.0, 4.0), metadata=says)
    units = ("second", "micrometer", "micrometer", "micrometer")
    return Case(folder / "a.tif", FILM[:, 1], "tzyx", {"channel": 1}, (1.5, 3.0, 0.25, 0.25), units)


# ----------------------------------------------------------------------------------------------------------- in memory
@case
def numpy_array(folder: Path) -> Case:
    return Case(STACK, STACK, "zyx", {}, (1, 1, 1), (None,) * 3)


@case
def numpy_film_of_one_channel(folder: Path) -> Case:
    return Case(FILM[:, :1, 0], FILM[:, 0, 0], "tyx", {"axes": "tcyx"})


@case
def numpy_bools_with_channel_last(folder: Path) -> Case:
    mask = FILM[0].transpose(1, 2, 3, 0) > 99
    return Case(mask, mask[..., 1], "zyx", {"axes": ("z", "y", "x", "c"), "channel": 1})


@case
def dask_array(folder: Path) -> Case:
    return Case(da.from_array(STACK, chunks=(4, 16, 16)) + 1, STACK + 1, "zyx", {})


@case
def zarr_array_on_disk(folder: Path) -> Case:
    path = write_zarr(folder / "a.zarr", STACK, chunks=(4, 16, 16))
    return Case(zarr.open_array(path), STACK, "zyx", {})


@case
def zarr_array_in_a_group(folder: Path) -> Case:
    zarr.create_group(str(folder / "g.zarr"))
    write_zarr(folder / "g.zarr" / "a", STACK, chunks=(4, 16, 16))
    return Case(zarr.open_group(folder / "g.zarr")["a"], STACK, "zyx", {})


@case
def zarr_array_in_memory(folder: Path) -> Case:
    return Case(zarr.array(FILM[0], chunks=(1, 4, 16, 16)), FILM[0, 1], "zyx", {"axes": "czyx", "channel": 1})


# --------------------------------------------------------------------------------------------------------------- tests
def random_boxes(shape: tuple[int, ...], count: int = 12) -> list[Box]:
    """Boxes at random, the whole image, its first and its last voxel."""
    rng = np.random.default_rng(5)
    boxes = [Box((0,) * len(shape), shape), Box((0,) * len(shape), (1,) * len(shape))]
    boxes.append(Box(tuple(n - 1 for n in shape), shape))
    for _ in range(count):
        ends = [sorted(rng.choice(n + 1, 2, replace=False).tolist()) for n in shape]
        boxes.append(Box(tuple(a for a, _ in ends), tuple(b for _, b in ends)))
    return boxes


def assert_reads(source: ImageSource, truth: np.ndarray) -> None:
    for box in random_boxes(truth.shape):
        pixels = source.read(box)
        assert pixels.dtype == truth.dtype.newbyteorder("=")
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable
        np.testing.assert_array_equal(pixels, truth[box.slices])
        np.testing.assert_array_equal(source.prefetch(box).result(), truth[box.slices])


@pytest.mark.parametrize("name", CASES)
def test_pixels_axes_and_scale(name: str, tmp_path: Path) -> None:
    made = CASES[name](tmp_path)
    source = open_image(made.image, **made.options)
    assert source.shape == made.truth.shape
    assert "".join(source.axes) == made.axes
    assert source.spatial_shape == made.truth.shape[source.separate_axes :]
    if made.scale:
        assert source.scale == pytest.approx(made.scale)
        assert source.spacing == pytest.approx(made.scale[source.separate_axes :])
    if made.units:
        assert source.units == made.units
    assert_reads(source, made.truth)


@pytest.mark.parametrize("name", CASES)
def test_the_same_after_a_journey(name: str, tmp_path: Path) -> None:
    """A source that workers open themselves, or else the part of one tile, gives the same pixels after pickling."""
    made = CASES[name](tmp_path)
    source = open_image(made.image, **made.options)
    if source.shippable:
        wire = pickle.dumps(source)
        assert len(wire) < 3000
        assert_reads(pickle.loads(wire), made.truth)
        again = source_from_description(source.describe())
        assert again.describe() == source.describe()
        assert again.identity() == source.identity()
    for box in random_boxes(made.truth.shape, 3):
        part = cloudpickle.loads(cloudpickle.dumps(source.part(box)))
        np.testing.assert_array_equal(part.read(), made.truth[box.slices])


def test_another_process_reads_the_same(tmp_path: Path) -> None:
    """Sources and parts of every kind, in a process that knows nothing but what it was sent."""
    sent = []
    for name in CASES:
        (tmp_path / name).mkdir()
        made = CASES[name](tmp_path / name)
        source = open_image(made.image, **made.options)
        box = random_boxes(made.truth.shape, 1)[-1]
        work = source.part(box).read if not source.shippable else lambda source=source, box=box: source.read(box)
        sent.append((name, work, made.truth[box.slices]))
    (tmp_path / "sent").write_bytes(cloudpickle.dumps([(name, work) for name, work, _ in sent]))
    script = (
        "import pickle, sys, cloudpickle; "
        "work = cloudpickle.load(open(sys.argv[1], 'rb')); "
        "pickle.dump({name: read() for name, read in work}, open(sys.argv[2], 'wb'))"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "sent", tmp_path / "back"], check=True, timeout=120)
    back = pickle.loads((tmp_path / "back").read_bytes())
    for name, _, truth in sent:
        np.testing.assert_array_equal(back[name], truth, err_msg=name)


def test_origin_of_an_ome_zarr(tmp_path: Path) -> None:
    """Translation is that of the level; the transformations of the whole pyramid come after the level's own."""
    write_ome_zarr(tmp_path / "i.zarr", STACK, "0.4")
    assert open_image(tmp_path / "i.zarr").translation == (100, 100, 100)
    group = zarr.open_group(tmp_path / "i.zarr")
    said = group.attrs.asdict()["multiscales"]
    said[0]["coordinateTransformations"] = [{"type": "scale", "scale": [10, 10, 10]}]
    group.attrs.update({"multiscales": said})
    source = open_image(tmp_path / "i.zarr")
    assert source.scale == (20, 5, 5)
    assert source.translation == (1000, 1000, 1000)
