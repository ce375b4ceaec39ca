"""CZI files of Zeiss: mosaics, scenes and pyramids, read with pylibCZIrw region by region."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from napari_blockbuster.images.metadata.axes import Request
from napari_blockbuster.images.metadata.scenes import Scene
from napari_blockbuster.images.places import Place

from .source import FileImage, FileSource, library, micrometers, open_scene, spans_of

__all__ = ["accepts", "open_file", "open_place", "scenes"]

MAGIC = b"ZISRAWFILE"
FURTHER = "RIHVB"
"""Rotation, illumination, phase, view, block: each combination is a scene of its own."""
CHUNK = 1024
TYPES = {"Gray8": "u1", "Gray16": "u2", "Gray32Float": "f4", "Bgr24": "u1", "Bgr48": "u2", "Bgr96Float": "f4"}


def accepts(place: Place) -> bool:
    return place.start(len(MAGIC)) == MAGIC


def scenes(place: Place) -> list[Scene]:
    with _library(place.text).open_czi(place.text) as document:
        return [Scene(_name(scene), _shape(document, scene)) for scene in _scenes(document)]


def open_place(place: Place, request: Request) -> FileSource:
    return open_scene("czi", __name__, place, request, scenes(place))


def open_file(path: str, scene: int, level: int) -> FileImage:
    # Closes the file when it goes, with the array that reads it.
    opened = _library(path).open_czi(path)
    document = opened.__enter__()
    chosen = _scenes(document)[scene]
    array = _CziArray(document, chosen, level, opened)
    shape = _shape(document, chosen)
    axes = "tczyxs" if array.is_color else "tczyx"
    sizes, channels = _facts(document)
    levels = tuple(array.reduced(shape, k) for k in range(_n_levels(document, shape)))
    return FileImage(array, axes, levels, sizes, dict.fromkeys("zyx", "micrometer"), channels)


def _library(path: str) -> Any:
    return library("pylibCZIrw.czi", "czi", path, "a CZI file")


def _scenes(document: Any) -> list[dict[str, int]]:
    """Index along S (if there are scenes) and along further dimensions, for each image."""
    box = document.total_bounding_box_no_pyramid
    indices: list[dict[str, int]] = [{"S": s} for s in sorted(document.scenes_bounding_rectangle_no_pyramid)] or [{}]
    further = [(d, range(*box[d])) for d in FURTHER if d in box]
    places = itertools.product(*(span for _, span in further))
    more = [{d: i for (d, span), i in zip(further, place, strict=True) if len(span) > 1 or i} for place in places]
    return [{**index, **extra} for index in indices for extra in more]


def _name(scene: dict[str, int]) -> str:
    return " ".join(f"{d}{i}" for d, i in scene.items())


def _rectangle(document: Any, scene: dict[str, int]) -> Any:
    if "S" in scene:
        return document.scenes_bounding_rectangle_no_pyramid[scene["S"]]
    return document.total_bounding_rectangle_no_pyramid


def _shape(document: Any, scene: dict[str, int]) -> tuple[int, ...]:
    box, rectangle = document.total_bounding_box_no_pyramid, _rectangle(document, scene)
    leading = tuple(box[d][1] - box[d][0] if d in box else 1 for d in "TCZ")
    samples = (3,) if document.get_channel_pixel_type(box.get("C", (0, 1))[0]).startswith("Bgr") else ()
    return (*leading, rectangle.h, rectangle.w, *samples)


def _n_levels(document: Any, shape: tuple[int, ...]) -> int:
    """Levels that the file's own pyramid gives without reading finer ones."""
    coarsest = 1.0

    def look(_: int, info: Any) -> bool:
        nonlocal coarsest
        coarsest = max(coarsest, info.logicalRect.w / max(info.physicalSize.w, 1))
        return True

    document.enumerate_subblocks(look)
    return max(1, int(np.log2(coarsest) + 1.001)) if max(shape[3:5]) > CHUNK or coarsest > 1 else 1


def _facts(document: Any) -> tuple[dict[str, Any], list[str]]:
    """Sizes of a voxel, and names of channels. Anything may be missing."""
    metadata = (document.metadata.get("ImageDocument") or {}).get("Metadata") or {}
    distances = _get(metadata, "Scaling", "Items", "Distance")
    sizes = {d["@Id"].lower(): d.get("Value") for d in _list(distances) if isinstance(d, dict) and d.get("@Id")}
    channels = _get(metadata, "Information", "Image", "Dimensions", "Channels", "Channel")
    names = [str(c.get("@Name") or "") for c in _list(channels) if isinstance(c, dict)]
    return {a: micrometers(v) for a, v in sizes.items() if a in "xyz"}, names


def _get(node: Any, *names: str) -> Any:
    for name in names:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _list(node: Any) -> list[Any]:
    return node if isinstance(node, list) else [] if node is None else [node]


class _CziArray:
    """The pixels of one scene at one level: t, c, z, y, x, and samples of a color image."""

    def __init__(self, document: Any, scene: dict[str, int], level: int, opened: Any) -> None:
        self._opened = opened
        self._document, self._scene, self._step = document, scene, 2**level
        self._box, self._rectangle = document.total_bounding_box_no_pyramid, _rectangle(document, scene)
        kind = document.get_channel_pixel_type(self._box.get("C", (0, 1))[0])
        self.dtype, self.is_color = np.dtype(TYPES[kind]), kind.startswith("Bgr")
        self.shape = self.reduced(_shape(document, scene), level)
        self.chunks = (1, 1, 1, *(min(n, CHUNK) for n in self.shape[3:5]), *self.shape[5:])

    @staticmethod
    def reduced(shape: tuple[int, ...], level: int) -> tuple[int, ...]:
        return (*shape[:3], *(max(1, n >> level) for n in shape[3:5]), *shape[5:])

    def __getitem__(self, index: tuple[slice | int, ...]) -> np.ndarray:
        spans = spans_of(index, self.shape)
        planes = [self._plane(place, spans[3], spans[4]) for place in itertools.product(*spans[:3])]
        result = np.stack(planes).reshape([len(s) for s in spans[:5]] + list(self.shape[5:]))
        inside = tuple(0 if isinstance(i, int) else slice(None) for i in index[:5])
        return result[inside + tuple(index[5:])]

    def _plane(self, place: tuple[int, ...], ys: range, xs: range) -> np.ndarray:
        step, corner = self._step, self._rectangle
        region = (corner.x + xs.start * step, corner.y + ys.start * step, len(xs) * step, len(ys) * step)
        plane = {d: i + self._box[d][0] for d, i in zip("TCZ", place, strict=True) if d in self._box}
        plane |= {d: i for d, i in self._scene.items() if d != "S"}
        pixels: np.ndarray = self._document.read(roi=region, plane=plane, scene=self._scene.get("S"), zoom=1 / step)
        pixels = pixels[: len(ys), : len(xs)]
        # Colors are stored as blue, green, red.
        return pixels[..., ::-1] if self.is_color else pixels[..., 0]
