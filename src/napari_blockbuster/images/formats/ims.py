"""IMS files of Imaris, which are HDF5: read with h5py chunk by chunk, with their pyramid."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from napari_blockbuster.images.base import ImageReadError
from napari_blockbuster.images.metadata.axes import Request
from napari_blockbuster.images.metadata.scenes import Scene
from napari_blockbuster.images.places import Place

from .source import FileImage, FileSource, library, open_scene, spans_of

__all__ = ["accepts", "open_file", "open_place", "scenes"]

MAGIC = b"\x89HDF\r\n\x1a\n"


def accepts(place: Place) -> bool:
    return place.start(len(MAGIC)) == MAGIC and place.text.lower().endswith((".ims", ".ims.h5"))


def scenes(place: Place) -> list[Scene]:
    return [Scene("")]


def open_place(place: Place, request: Request) -> FileSource:
    return open_scene("ims", __name__, place, request, scenes(place))


def open_file(path: str, scene: int, level: int) -> FileImage:
    file = library("h5py", "ims", path, "an Imaris file").File(path, "r")
    if "DataSet" not in file:
        raise ImageReadError(f"{path} is HDF5 but not of Imaris: it has no group DataSet")
    levels = [_ImsArray(group) for group in _numbered(file["DataSet"], "ResolutionLevel")]
    if not levels:
        raise ImageReadError(f"{path} holds no image: its group DataSet is empty")
    info = file.get("DataSetInfo", {})
    shapes = tuple(array.shape for array in levels)
    sizes, unit = _sizes(info, shapes[0])
    names = [_text(group, "Name") or "" for group in _numbered(info, "Channel")]
    channels = names if len(names) == shapes[0][1] else []
    return FileImage(levels[min(level, len(levels) - 1)], "tczyx", shapes, sizes, dict.fromkeys("zyx", unit), channels)


def _numbered(group: Any, start: str) -> list[Any]:
    """Members called ``start 0``, ``start 1`` and so on."""
    names = (f"{start} {i}" for i in itertools.count())
    return [group[name] for name in itertools.takewhile(lambda name: name in group, names)]


def _text(group: Any, name: str) -> str | None:
    """An attribute of Imaris: an array of single characters."""
    value = group.attrs.get(name)
    return None if value is None else b"".join(np.atleast_1d(value).astype("S1")).decode("utf-8", "replace").strip()


def _number(group: Any, name: str) -> float | None:
    try:
        return float(_text(group, name) or "")
    except ValueError:
        return None


def _sizes(info: Any, shape: tuple[int, ...]) -> tuple[dict[str, float], str]:
    """Extent of the image in space, divided by the number of voxels."""
    image = info.get("Image")
    sizes: dict[str, float] = {}
    for number, axis in enumerate("xyz"):
        low, high = (_number(image, f"{end}{number}") if image is not None else None for end in ("ExtMin", "ExtMax"))
        if low is not None and high is not None:
            sizes[axis] = (high - low) / shape[4 - number]
    return sizes, (_text(image, "Unit") if image is not None else None) or "micrometer"


class _ImsArray:
    """One level: t, c, z, y, x. Data sets may be larger than the image."""

    def __init__(self, level: Any) -> None:
        self._channels = [_numbered(point, "Channel") for point in _numbered(level, "TimePoint")]
        first = self._channels[0][0]
        data = first["Data"]
        extents = [_number(first, f"ImageSize{axis}") for axis in "ZYX"]
        space = tuple(int(n) if n else m for n, m in zip(extents, data.shape, strict=True))
        self.shape = (len(self._channels), len(self._channels[0]), *space)
        self.dtype = data.dtype
        self.chunks = (1, 1, *(min(c, n) for c, n in zip(data.chunks or data.shape, space, strict=True)))

    def __getitem__(self, index: tuple[slice | int, ...]) -> np.ndarray:
        ts, cs = spans_of(index[:2], self.shape[:2])
        blocks = [[self._channels[t][c]["Data"][tuple(index[2:])] for c in cs] for t in ts]
        inside = tuple(0 if isinstance(i, int) else slice(None) for i in index[:2])
        return np.asarray(blocks)[inside]
