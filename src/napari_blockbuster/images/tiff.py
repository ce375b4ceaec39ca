"""TIFF, OME-TIFF and ImageJ hyperstacks: read page by page or tile by tile, never whole."""

from __future__ import annotations

import functools
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..tiling import Box
from .base import ImageReadError, ImageSource, Layout
from .chunks import CachedReader

__all__ = ["TiffSource", "describe_tiff"]


class TiffSource(ImageSource):
    """The first series of a TIFF file at one level: a small handle that each worker opens for itself."""

    def __init__(self, path: str, layout: Layout, level: int = 0) -> None:
        self.path, self.layout, self.level = path, layout, level
        self.name = Path(path).name
        opened = _open(path, level)
        self.shape = layout.pick(opened.shape)
        self.dtype = np.dtype(opened.dtype).newbyteorder("=")
        self.chunks = self.read_chunks = layout.pick(opened.chunks)

    def _read(self, box: Box) -> np.ndarray:
        with _reading:
            return _open(self.path, self.level).reader[self.layout.index(box)]

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
    reader: CachedReader


# tifffile's handle has one file position.
_reading = threading.RLock()


@functools.lru_cache(maxsize=16)
def _open(path: str, level: int) -> _Opened:
    import tifffile
    import zarr

    try:
        series = tifffile.TiffFile(path).series[0]
        array = zarr.open_array(series.levels[level].aszarr(), mode="r")
    except Exception as error:
        raise ImageReadError(f"{path} cannot be read as TIFF ({str(error)[:300]})") from error
    return _Opened(array.shape, array.dtype, array.chunks, CachedReader(array, array.chunks))


def forget_opened() -> None:
    """Look at the disk again when a file is opened next."""
    _open.cache_clear()


@dataclass(frozen=True)
class TiffDescription:
    """What a TIFF file says of itself: axes in tifffile's letters, levels, and the extent of a voxel where it tells."""

    axes: str
    shapes: list[tuple[int, ...]]
    size: dict[str, float]
    unit: dict[str, str]
    channels: list[str]


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
            size, unit = _ome_size(file.ome_metadata) if file.is_ome else _imagej_size(file)
            channels = re.findall(r"<(?:\w+:)?Channel\b[^>]*?\bName=\"([^\"]*)\"", file.ome_metadata or "")
            return TiffDescription(series.axes, shapes, size, unit, channels)
    except Exception as error:
        raise ImageReadError(f"{path} cannot be read as TIFF ({str(error)[:300]})") from error


def _ome_size(xml: str | None) -> tuple[dict[str, float], dict[str, str]]:
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", xml or "")
    size: dict[str, float] = {}
    unit: dict[str, str] = {}
    for axis in "xyz" if pixels else "":
        value = re.search(rf'\bPhysicalSize{axis.upper()}="([^"]+)"', pixels[0])  # type: ignore[index]
        if value:
            size[axis] = float(value[1])
            named = re.search(rf'\bPhysicalSize{axis.upper()}Unit="([^"]+)"', pixels[0])  # type: ignore[index]
            unit[axis] = _unit(named[1] if named else "µm")
    return size, unit


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
        size["z"] = float(metadata["spacing"])
    unit = _unit(str(metadata.get("unit", "")))
    return size, dict.fromkeys(size, unit) if unit else {}


def _unit(name: str) -> str:
    """The name that OME-Zarr uses."""
    micrometer = {"µm", "μm", "um", "micron", "microns", "\\u00B5m"}
    return "micrometer" if name in micrometer else {"nm": "nanometer", "mm": "millimeter"}.get(name, name)
