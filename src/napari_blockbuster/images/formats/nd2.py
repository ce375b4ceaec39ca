"""ND2 files of Nikon, read with nd2: each position is a scene. Pixels that are not compressed are mapped, not read."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from napari_blockbuster.images.base import ImageReadError
from napari_blockbuster.images.metadata.axes import Request
from napari_blockbuster.images.metadata.scenes import Scene
from napari_blockbuster.images.metadata.sizes import say
from napari_blockbuster.images.places import Place, name_of

from .source import FileImage, FileSource, PlaneArray, library, open_scene

__all__ = ["accepts", "open_file", "open_place", "scenes"]

MAGIC = (b"\xda\xce\xbe\x0a", b"\x00\x00\x00\x0cjP  ")
"""Of files of today, and of early ones, which are JPEG 2000."""


def accepts(place: Place) -> bool:
    start = place.start(8)
    return start.startswith(MAGIC[0]) or (start.startswith(MAGIC[1]) and place.text.lower().endswith(".nd2"))


def scenes(place: Place) -> list[Scene]:
    with _open(place.text) as file:
        shape = tuple(n for axis, n in file.sizes.items() if axis != "P")
        names = _names(file)
        return [Scene(names[i], shape) for i in range(file.sizes.get("P", 1))]


def open_place(place: Place, request: Request) -> FileSource:
    return open_scene("nd2", __name__, place, request, scenes(place))


def open_file(path: str, scene: int, level: int) -> FileImage:
    file = _open(path)
    sizes = dict(file.sizes)
    axes = "".join(_letter(axis, path) for axis in sizes if axis != "P")
    loops = [axis for axis in sizes if axis not in "CYXS"]
    frame = [n for axis, n in sizes.items() if axis in "CYXS"]
    shape = [n for axis, n in sizes.items() if axis != "P"]

    def read(index: tuple[int, ...]) -> np.ndarray:
        place = list(index)
        if "P" in loops:
            place.insert(loops.index("P"), scene)
        number = int(np.ravel_multi_index(place, [sizes[axis] for axis in loops])) if loops else 0
        if number >= file.attributes.sequenceCount:
            raise ImageReadError(f"plane {number} was never written: the acquisition was stopped before it")
        pixels: np.ndarray = file.read_frame(number)
        return pixels

    array = PlaneArray(shape, file.dtype, len(frame), read)
    weakref.finalize(array, file.close)
    found, channels = _facts(file, path)
    return FileImage(
        array,
        axes,
        (tuple(shape),),
        found,
        dict.fromkeys("xyz", "micrometer"),
        channels if "c" in axes else (),
        # Pixels that are not compressed are mapped: a box costs no more than its own pages.
        is_cached=file.attributes.compressionType is None,
    )


def _open(path: str) -> Any:
    return library("nd2", "nd2", path, "an ND2 file").ND2File(path)


def _letter(axis: str, path: str) -> str:
    letter = axis.lower()
    if letter not in tuple("tczyxs"):
        raise ValueError(f"{path} has an axis {axis!r} besides time, position, z and channel. It cannot be read")
    return letter


def _names(file: Any) -> list[str]:
    """Names of the positions, "" for one without."""
    count = file.sizes.get("P", 1)
    for loop in file.experiment:
        if loop.type == "XYPosLoop":
            names = [str(point.name or "") for point in loop.parameters.points]
            return names if len(names) == count else [""] * count
    return [""] * count


def _facts(file: Any, path: str) -> tuple[dict[str, float], list[str]]:
    """Sizes that were measured (files say 1 without a calibration), and names of channels."""
    try:
        channels = (file.metadata.channels if file.metadata else None) or []
    except Exception as error:
        say(f"{name_of(path)}: its metadata is damaged ({error}). Its pixels are read, but not what it says of them")
        return {}, []
    names = [str(channel.channel.name or "") for channel in channels]
    if not channels:
        return {}, names
    volume = channels[0].volume
    measured = zip("xyz", volume.axesCalibration, volume.axesCalibrated, strict=True)
    return {axis: float(size) for axis, size, known in measured if known}, names
