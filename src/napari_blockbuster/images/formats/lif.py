"""LIF files of Leica (and LOF, XLIF), read with liffile plane by plane: each image is a scene."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_blockbuster.images.metadata.axes import Request
from napari_blockbuster.images.metadata.scenes import Scene
from napari_blockbuster.images.places import Place

from .source import FileImage, FileSource, PlaneArray, library, micrometers, open_scene

__all__ = ["accepts", "open_file", "open_place", "scenes"]

SUFFIXES = (".lif", ".lof", ".xlif")
SPECTRA = {"λ": "c", "Λ": "c"}
"""Wavelengths of emission and excitation are channels."""


def accepts(place: Place) -> bool:
    return place.path is not None and place.path.is_file() and place.path.suffix.lower() in SUFFIXES


def scenes(place: Place) -> list[Scene]:
    with _open(place.text) as file:
        return [Scene(image.path if _is_nested(file) else image.name, tuple(image.shape)) for image in file.images]


def open_place(place: Place, request: Request) -> FileSource:
    return open_scene("lif", __name__, place, request, scenes(place))


def open_file(path: str, scene: int, level: int) -> FileImage:
    image = _open(path).images[scene]
    frames = image.frames
    names = list(frames.dims)
    axes = _letters(names, image.name, path)
    plane_axes = len(frames.frame_sizes)

    def read(index: tuple[int, ...]) -> np.ndarray:
        pixels: np.ndarray = image.frame(**dict(zip(names, map(int, index), strict=False)))
        return pixels

    array = PlaneArray(frames.shape, frames.dtype, plane_axes, read)
    steps = {letter: _step(image.coords.get(name)) for letter, name in zip(axes, names, strict=True)}
    sizes = {
        a: step if a == "t" else micrometers(step) for a, step in steps.items() if a in "tzyx" and step is not None
    }
    units = {a: "second" if a == "t" else "micrometer" for a in sizes}
    return FileImage(array, axes, (tuple(frames.shape),), sizes, units)


def _open(path: str) -> Any:
    return library("liffile", "lif", path, "a Leica file").LifFile(path)


def _is_nested(file: Any) -> bool:
    names = [image.name for image in file.images]
    return len(set(names)) < len(names)


def _letters(names: list[str], image: str, path: str) -> str:
    letters = [SPECTRA.get(name, name.lower()) for name in names]
    if len(set(letters)) < len(letters) or not set(letters) <= set("tczyxs"):
        raise ValueError(
            f"{path}: the image {image} has the axes {', '.join(names)}, and only one of them may be channels"
        )
    return "".join(letters)


def _step(coordinate: Any) -> float | None:
    """Distance between evenly spaced values."""
    if coordinate is None or len(coordinate) < 2:
        return None
    return float(abs(coordinate[-1] - coordinate[0]) / (len(coordinate) - 1))
