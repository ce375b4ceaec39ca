"""TIFF, OME-TIFF and ImageJ hyperstacks: read page by page or tile by tile, never whole."""

from __future__ import annotations

import functools
import math
import threading
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box

from .base import ImageReadError, ImageSource, Layout
from .chunks import CachedReader
from .stored import new_opening

__all__ = ["TiffSource", "describe_tiff"]

LARGE = 2**22
"""Bytes of a page or strip above which a box is read without the rest of it, where nothing is compressed."""


class TiffSource(ImageSource):
    """The first series of a TIFF file at one level: a small handle that each worker opens for itself."""

    def __init__(self, path: str, layout: Layout, level: int = 0) -> None:
        self.path, self.layout, self.level = path, layout, level
        self.opening = new_opening()
        self.name = Path(path).name
        opened = _open(path, level, self.opening)
        self.shape = layout.pick(opened.shape)
        self.dtype = np.dtype(opened.dtype).newbyteorder("=")
        self.chunks = self.read_chunks = layout.pick(opened.chunks)

    def _read(self, box: Box) -> np.ndarray:
        with _reading:
            return _open(self.path, self.level, self.opening).reader[self.layout.index(box)]

    def describe(self) -> dict[str, Any]:
        return self._description("tiff", path=self.path, level=self.level)

    @property
    def shippable(self) -> bool:
        return True

    @property
    def local_path(self) -> Path | None:
        return Path(self.path)

    def aliases(self, path: Path) -> bool:
        own, target = Path(self.path).resolve(), path.resolve()
        return own.is_relative_to(target) or target.is_relative_to(own)


@dataclass(frozen=True)
class _Opened:
    shape: tuple[int, ...]
    dtype: Any
    chunks: tuple[int, ...]
    reader: CachedReader | _Contiguous


@dataclass(frozen=True)
class _Contiguous:
    """Pixels that lie in the file as they lie in memory: nothing is decoded, no page is read for one of its corners."""

    path: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]

    def __getitem__(self, index: tuple[slice | int, ...]) -> np.ndarray:
        # Mapped anew for each box: what stays mapped counts as memory of this process.
        return np.array(np.memmap(self.path, self.dtype, "r", self.offset, self.shape)[index])


# tifffile's handle has one file position.
_reading = threading.RLock()


@functools.lru_cache(maxsize=16)
def _open(path: str, level: int, opening: str) -> _Opened:
    import tifffile
    import zarr

    try:
        file = tifffile.TiffFile(path)
        series = file.series[0].levels[level]
        _check_codec(tifffile.TIFF.DECOMPRESSORS, series.keyframe.compression, path)
        _check_codec(tifffile.TIFF.UNPREDICTORS, series.keyframe.predictor, path)
        array = zarr.open_array(series.aszarr(), mode="r")
        reader: CachedReader | _Contiguous = CachedReader(array, array.chunks)
        if math.prod(array.chunks) * array.dtype.itemsize > LARGE and series.dataoffset is not None:
            dtype = np.dtype(file.byteorder + series.dtype.char)
            reader = _Contiguous(path, dtype, series.dataoffset, tuple(series.shape))
    except ImageReadError:
        raise
    except Exception as error:
        raise ImageReadError(f"{path} cannot be read as TIFF ({str(error)[:300]})") from error
    return _Opened(array.shape, array.dtype, array.chunks, reader)


def _check_codec(known: Any, code: int, path: str) -> None:
    # tifffile would say so at the first pixel: after the job was made.
    try:
        known[code]
    except KeyError:
        name = getattr(code, "name", code)
        raise ImageReadError(
            f"{path} is compressed with {name}, which needs the package imagecodecs: pip install imagecodecs"
        ) from None


@dataclass(frozen=True)
class TiffDescription:
    """What a TIFF file says of itself: axes in tifffile's letters, levels, and the extent of a voxel where it tells."""

    axes: str
    shapes: list[tuple[int, ...]]
    size: dict[str, float]
    unit: dict[str, str]
    channels: list[str]
    dtype: np.dtype[Any]


def describe_tiff(path: Path) -> TiffDescription:
    """Read a file's tags.

    Raises
    ------
    ImageReadError
        If it is no TIFF.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            shapes = [tuple(level.shape) for level in series.levels]
            if file.is_ome:
                size, unit, channels = _ome_says(file.ome_metadata)
            else:
                (size, unit), channels = _imagej_size(file), []
            size = {axis: value for axis, value in size.items() if math.isfinite(value) and value != 0}
            return TiffDescription(series.axes, shapes, size, unit, channels, np.dtype(series.dtype))
    except Exception as error:
        raise ImageReadError(f"{path} cannot be read as TIFF ({str(error)[:300]})") from error


def _ome_says(xml: str | None) -> tuple[dict[str, float], dict[str, str], list[str]]:
    """Size and unit of a voxel, and the names of the channels ("" for one without), of the first image of a file."""
    pixels = ElementTree.fromstring(xml or "<OME/>").find("./{*}Image/{*}Pixels")
    size: dict[str, float] = {}
    unit: dict[str, str] = {}
    if pixels is None:
        return size, unit, []
    for axis in "xyz":
        value = pixels.get(f"PhysicalSize{axis.upper()}")
        if value:
            size[axis] = _length(value)
            unit[axis] = _unit(pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm"))
    if interval := pixels.get("TimeIncrement"):
        size["t"], unit["t"] = _length(interval), _unit(pixels.get("TimeIncrementUnit", "s"))
    return size, unit, [channel.get("Name", "") for channel in pixels.findall("./{*}Channel")]


def _imagej_size(file: Any) -> tuple[dict[str, float], dict[str, str]]:
    metadata = file.imagej_metadata
    if not metadata:
        return {}, {}
    size: dict[str, float] = {}
    tags = file.pages[0].tags
    for axis, tag in (("x", "XResolution"), ("y", "YResolution")):
        if tag in tags and tags[tag].value[0]:
            numerator, denominator = tags[tag].value
            size[axis] = denominator / numerator
    if "spacing" in metadata:
        size["z"] = _length(metadata["spacing"])
    unit = dict.fromkeys(size, _unit(str(metadata.get("unit", ""))))
    if metadata.get("finterval"):
        size["t"], unit["t"] = _length(metadata["finterval"]), _unit(str(metadata.get("tunit", "s")))
    return size, unit


UNITS = {
    "micrometer": ("µm", "μm", "um", "micron", "microns", "\\u00B5m"),
    "nanometer": ("nm",),
    "millimeter": ("mm",),
    "centimeter": ("cm",),
    "meter": ("m",),
    "angstrom": ("Å", "A"),
    "inch": ("in",),
    "second": ("s", "sec"),
    "millisecond": ("ms",),
    "minute": ("min",),
    "hour": ("h",),
    # No units, though they stand where one should.
    "": ("pixel", "pixels", "reference frame"),
}


def _length(value: Any) -> float:
    """The extent of a voxel; not a number where a file says none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _unit(name: str) -> str:
    """The name that OME-Zarr uses; "" where there is none."""
    name = name.strip()
    return next((unit for unit, names in UNITS.items() if name in names), name)
