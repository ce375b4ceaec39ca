"""Folders of TIFF files that are planes of one image, read with tifffile. The numbers in their names say where each belongs."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.images.base import ImageReadError
from napari_blockbuster.images.metadata.axes import Request
from napari_blockbuster.images.metadata.scenes import Scene
from napari_blockbuster.images.places import Place, few
from napari_blockbuster.images.tiff.files import open_tiff
from napari_blockbuster.images.tiff.metadata import facts_of
from napari_blockbuster.machine.units import shape_text

from .source import FileImage, FileSource, PlaneArray, open_scene

__all__ = ["accepts", "find_planes", "open_file", "open_place", "scenes"]

SUFFIXES = (".tif", ".tiff")


def find_planes(image: str, axes: str) -> Place | None:
    """The folder or pattern of TIFF files that are planes of one image with these axes; None for anything else.

    Parameters
    ----------
    image : str
        What the user named.
    axes : str
        More axes than each file has: a folder of files that have them all is a folder of images.
    """
    path = Path(image).expanduser().absolute()
    if not path.is_dir() and (not glob.has_magic(image) or path.exists()):
        return None
    place = Place(str(path), path)
    if not accepts(place):
        return None
    with open_tiff(min(_files(place.text))) as first:
        is_stack = len(axes) > len(first.series[0].shape)
    return place if is_stack else None


def accepts(place: Place) -> bool:
    """A folder or pattern of several TIFF files; only asked where the user named the axes of one image."""
    return len(_files(place.text)) > 1


def scenes(place: Place) -> list[Scene]:
    return [Scene("")]


def open_place(place: Place, request: Request) -> FileSource:
    return open_scene("planes", __name__, place, request, scenes(place))


def open_file(path: str, scene: int, level: int) -> FileImage:
    files, shape, letters = _arranged(path)
    with open_tiff(files[0]) as first:
        series, facts = first.series[0], facts_of(first, 0)
        plane, axes, dtype = tuple(series.shape), str(series.axes).lower(), series.dtype

    def read(index: tuple[int, ...]) -> np.ndarray:
        file = files[int(np.ravel_multi_index(index, shape))]
        with open_tiff(file) as tiff:
            found: np.ndarray = tiff.series[0].asarray()
        if found.shape != plane:
            raise ImageReadError(f"{file} has the shape {found.shape}, and the first plane of the folder has {plane}")
        return found

    array = PlaneArray((*shape, *plane), dtype, len(plane), read)
    known = letters + axes if letters and set(axes) <= set("tczyxs") else None
    return FileImage(array, known, (array.shape,), facts.sizes, facts.units, facts.channels)


def _files(path: str) -> list[str]:
    found = glob.glob(path, recursive=True) if not Path(path).is_dir() else map(str, Path(path).iterdir())
    return [p for p in found if p.lower().endswith(SUFFIXES) and not Path(p).name.startswith(".")]


def _arranged(path: str) -> tuple[list[str], tuple[int, ...], str]:
    """Files in the order of the numbers that differ in their names, the extent along each number, and their letters.

    Raises
    ------
    ImageReadError
        If names differ in more than numbers, or if files are missing.
    """
    names = {file: re.split(r"(\d+)", Path(file).name) for file in _files(path)}
    texts = {tuple(parts[::2]) for parts in names.values()}
    if len(texts) != 1:
        raise ImageReadError(
            f"{path}: the names of its files differ in more than numbers ({few(sorted(Path(f).name for f in names))}), so "
            "their order is not known. Give a pattern that matches the planes of one image"
        )
    numbers = {file: [int(n) for n in parts[1::2]] for file, parts in names.items()}
    varying = [k for k in range(len(next(iter(numbers.values())))) if len({n[k] for n in numbers.values()}) > 1]
    values = [sorted({n[k] for n in numbers.values()}) for k in varying]
    shape = tuple(len(v) for v in values)
    places = {tuple(v.index(n[k]) for k, v in zip(varying, values, strict=True)): file for file, n in numbers.items()}
    missing = [place for place in np.ndindex(*shape) if place not in places]
    if missing or len(places) < len(names):
        raise ImageReadError(
            f"{path}: {len(names)} files do not fill a grid of {shape_text(shape)} planes, by the numbers in their "
            f"names. {len(missing)} are missing, or two have the same numbers"
        )
    return [places[place] for place in np.ndindex(*shape)], shape, _letters(next(iter(texts)), varying)


def _letters(texts: Sequence[Any], varying: Sequence[int]) -> str:
    """Axes, from a letter t, c or z before each number; empty if a number has none."""
    found = [re.search(r"(?:^|[^a-zA-Z])([tcz])$", texts[k].lower()) for k in varying]
    letters = "".join(match[1] for match in found if match)
    return letters if len(letters) == len(varying) == len(set(letters)) else ""
