"""Whole slides that are no TIFF (MRXS and others), read with OpenSlide region by region, with their pyramid."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_blockbuster.images.metadata.axes import Request
from napari_blockbuster.images.metadata.scenes import Scene
from napari_blockbuster.images.places import Place

from .source import FileImage, FileSource, library, open_scene, spans_of

__all__ = ["accepts", "open_file", "open_place", "scenes"]

SUFFIXES = (".mrxs", ".vms", ".vmu", ".svslide")
"""SVS, NDPI, SCN, BIF and others are TIFF: tifffile reads their pixels, levels and sizes."""
CHUNK = 1024


def accepts(place: Place) -> bool:
    return place.path is not None and place.path.is_file() and place.path.suffix.lower() in SUFFIXES


def scenes(place: Place) -> list[Scene]:
    return [Scene("")]


def open_place(place: Place, request: Request) -> FileSource:
    return open_scene("slide", __name__, place, request, scenes(place))


def open_file(path: str, scene: int, level: int) -> FileImage:
    slide = library("openslide", "slides", path, "a whole slide").OpenSlide(path)
    shapes = tuple((height, width, 3) for width, height in slide.level_dimensions)
    sizes = {axis: slide.properties.get(f"openslide.mpp-{axis}") for axis in "xy"}
    array = _SlideArray(slide, min(level, len(shapes) - 1))
    return FileImage(array, "yxs", shapes, sizes, dict.fromkeys("yx", "micrometer"), ("red", "green", "blue"))


class _SlideArray:
    """One level as y, x, and red, green, blue. Where nothing was scanned, the slide's background color."""

    def __init__(self, slide: Any, level: int) -> None:
        self._slide, self._level = slide, level
        width, height = slide.level_dimensions[level]
        self.shape, self.dtype = (height, width, 3), np.dtype("u1")
        self.chunks = (min(height, CHUNK), min(width, CHUNK), 3)
        color = slide.properties.get("openslide.background-color") or "ffffff"
        self._background = np.frombuffer(bytes.fromhex(color), np.uint8)

    def __getitem__(self, index: tuple[slice | int, ...]) -> np.ndarray:
        ys, xs = spans_of(index[:2], self.shape[:2])
        step = self._slide.level_downsamples[self._level]
        corner = (round(xs.start * step), round(ys.start * step))
        pixels = np.asarray(self._slide.read_region(corner, self._level, (len(xs), len(ys))))
        colors, alpha = pixels[..., :3].astype(np.uint16), pixels[..., 3:].astype(np.uint16)
        mixed = (colors * alpha + self._background * (255 - alpha) + 127) // 255
        inside = tuple(0 if isinstance(i, int) else slice(None) for i in index[:2])
        return mixed.astype(np.uint8)[(*inside, index[2])]
