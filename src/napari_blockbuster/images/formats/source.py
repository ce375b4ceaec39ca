"""What adapters of file formats share: a small handle that each worker opens for itself, and the way to it.

An adapter is a module with these functions, for each of which a format needs a few lines::

    accepts(place) -> bool
    scenes(place) -> list of Scene
    open_file(path, scene, level) -> FileImage
    open_place(place, request) -> FileSource    (calls `open_scene`)
"""

from __future__ import annotations

import functools
import importlib
import itertools
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images.base import ImageReadError, ImageSource, Layout
from napari_blockbuster.images.chunks import CachedReader
from napari_blockbuster.images.metadata.axes import (
    Request,
    check_dtype,
    check_level,
    image_axes,
    make_layout,
    resolve_axes,
)
from napari_blockbuster.images.metadata.scenes import Scene, listed, pick_scene
from napari_blockbuster.images.metadata.sizes import level_factor, say, voxel_sizes
from napari_blockbuster.images.places import Place, name_of
from napari_blockbuster.images.zarr.source import new_opening

__all__ = ["FileImage", "FileSource", "PlaneArray", "library", "micrometers", "open_scene", "spans_of"]


@dataclass(frozen=True)
class FileImage:
    """One image of an opened file at one level.

    Attributes
    ----------
    array
        Has ``shape``, ``dtype``, ``chunks``, and gives the pixels of a box: ``array[slices]``.
    axes : str or None
        A letter for each axis of the array: t, c, z, y, x, s. None: the user must say.
    levels : tuple of tuple of int
        Shape of each level, the finest first.
    sizes, units : dict
        By axis at full resolution, as stored.
    channels : sequence of str
        Names.
    is_cached : bool
        Whether the array keeps decoded chunks by itself, or reads boxes without decoding anything.
    """

    array: Any
    axes: str | None
    levels: tuple[tuple[int, ...], ...]
    sizes: dict[str, Any] = field(default_factory=dict)
    units: dict[str, Any] = field(default_factory=dict)
    channels: Sequence[str] = ()
    is_cached: bool = False


def spans_of(index: Sequence[slice | int], shape: Sequence[int]) -> list[range]:
    """What an index of slices and numbers takes along each axis."""
    return [range(i, i + 1) if isinstance(i, int) else range(*i.indices(n)) for i, n in zip(index, shape, strict=True)]


class PlaneArray:
    """An array of planes that are decoded one by one.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    plane_axes : int
        Number of axes of one plane, the last of the array.
    read : callable
        From the index of a plane along the other axes to its pixels.
    """

    def __init__(
        self, shape: Sequence[int], dtype: Any, plane_axes: int, read: Callable[[tuple[int, ...]], np.ndarray]
    ) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self._leading = len(self.shape) - plane_axes
        self._read = read
        self.chunks = (1,) * self._leading + self.shape[self._leading :]

    def __getitem__(self, index: tuple[slice | int, ...]) -> np.ndarray:
        spans = spans_of(index, self.shape)
        grid, inside = spans[: self._leading], tuple(slice(s.start, s.stop) for s in spans[self._leading :])
        shape = self.shape[self._leading :]
        planes = [np.asarray(self._read(place)).reshape(shape)[inside] for place in itertools.product(*grid)]
        result = np.stack(planes).reshape([len(s) for s in spans])
        return result[tuple(0 if isinstance(i, int) else slice(None) for i in index)]


class FileSource(ImageSource):
    """One image of a file at one level.

    Parameters
    ----------
    kind : str
        Name of the format, see `napari_blockbuster.images.opening.FORMATS`.
    adapter : str
        Module that opens it.
    path : str
    layout : Layout
    level, scene : int
    """

    def __init__(
        self, kind: str, adapter: str, path: str, layout: Layout, level: int = 0, scene: int = 0, opening: str = ""
    ) -> None:
        self.kind, self.adapter, self.path = kind, adapter, path
        self.layout, self.level, self.scene = layout, level, scene
        self.opening = opening or new_opening()
        self.name = name_of(path)
        array = _open(*self._key).array
        self.shape = layout.pick(array.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        self.chunks = self.read_chunks = layout.pick(array.chunks)

    @property
    def _key(self) -> tuple[str, str, int, int, str]:
        return self.adapter, self.path, self.scene, self.level, self.opening

    def _read(self, box: Box) -> np.ndarray:
        with _reading:
            pixels: np.ndarray = _reader(*self._key)[self.layout.index(box)]
        return pixels

    @property
    def decodes_chunks(self) -> bool:
        # N5 keeps its own chunks, and is the only one that decodes any without the cache here.
        return self.kind == "n5" or not _open(*self._key).is_cached

    def describe(self) -> dict[str, Any]:
        return self._description(self.kind, path=self.path, level=self.level)

    @property
    def shippable(self) -> bool:
        return True

    @property
    def local_path(self) -> Path | None:
        path = Path(self.path)
        # A pattern lies in a folder.
        return path if path.exists() else path.parent

    def aliases(self, path: Path) -> bool:
        assert self.local_path is not None
        own, target = self.local_path.resolve(), path.resolve()
        # Labels may lie beside the files of a folder of planes, but not among the files of one image.
        return own.is_relative_to(target) or (self.kind != "planes" and target.is_relative_to(own))


# The libraries' handles have one file position, and not all of them say whether threads may share it.
_reading = threading.RLock()


@functools.lru_cache(maxsize=16)
def _open(adapter: str, path: str, scene: int, level: int, opening: str) -> FileImage:
    try:
        with _reading:
            image: FileImage = importlib.import_module(adapter).open_file(path, scene, level)
    except (ImageReadError, ImportError, ValueError):
        raise
    except Exception as error:
        raise ImageReadError(f"{path} cannot be read ({type(error).__name__}: {str(error)[:300]})") from error
    return _squeezed(image)


def _squeezed(image: FileImage) -> FileImage:
    """Leave out axes of extent 1 that the format has for every image: one plane is a 2D image."""
    if image.axes is None:
        return image
    kept = [k for k, (a, n) in enumerate(zip(image.axes, image.array.shape, strict=True)) if n > 1 or a in "yxs"]
    if len(kept) == len(image.axes) or not set("".join(image.axes[k] for k in kept)) & set("zyx"):
        return image
    return replace(
        image,
        array=_Squeezed(image.array, kept),
        axes="".join(image.axes[k] for k in kept),
        levels=tuple(tuple(shape[k] for k in kept) for shape in image.levels),
        channels=image.channels if len(image.channels) > 1 else (),
    )


class _Squeezed:
    """An array without some axes of extent 1."""

    def __init__(self, array: Any, kept: Sequence[int]) -> None:
        self._array, self._kept = array, list(kept)
        self.dtype = array.dtype
        self.shape, self.chunks = (tuple(of[k] for k in kept) for of in (array.shape, array.chunks))

    def __getitem__(self, index: tuple[slice | int, ...]) -> np.ndarray:
        whole: list[slice | int] = [0] * len(self._array.shape)
        for k, part in zip(self._kept, index, strict=True):
            whole[k] = part
        pixels: np.ndarray = self._array[tuple(whole)]
        return pixels


@functools.lru_cache(maxsize=16)
def _reader(adapter: str, path: str, scene: int, level: int, opening: str) -> Any:
    image = _open(adapter, path, scene, level, opening)
    return image.array if image.is_cached else CachedReader(image.array, image.array.chunks)


def open_scene(kind: str, adapter: str, place: Place, request: Request, scenes: Sequence[Scene]) -> FileSource:
    """Open what the user asked for, with the rules for scenes, levels, axes, channels and sizes of all formats.

    Without a scene, the first is read if no other is larger, and a warning says that there are others.

    Raises
    ------
    ImportError
        If the library is missing.
    ImageReadError
        If the file cannot be read.
    ValueError
        If it does not have what was asked for.
    """
    path, opening = place.text, new_opening()
    extents = [math.prod(scene.shape or (1,)) for scene in scenes]
    index = pick_scene(scenes, request.scene, path, 0 if extents[0] == max(extents) else None)
    if request.scene is None and len(scenes) > 1:
        say(
            f"{name_of(path)} holds {len(scenes)} images. Number 0 is read. Choose with scene= (--scene): {listed(scenes)}"
        )
    image = _open(adapter, path, index, 0, opening)
    check_level(request.level, image.levels, path)
    if request.level:
        image = _open(adapter, path, index, request.level, opening)
    check_dtype(np.dtype(image.array.dtype), path)
    shape = tuple(image.array.shape)
    stored = resolve_axes(request.axes or image.axes, shape, path)
    axes = image_axes(stored)
    full = dict(zip(stored, image.levels[0], strict=True))
    here = dict(zip(stored, shape, strict=True))
    sizes = voxel_sizes(
        axes,
        [full[a] for a in axes],
        image.sizes,
        image.units,
        name_of(path),
        spacing=request.spacing,
        factors={a: level_factor(full[a], here[a]) for a in axes} if request.level else None,
    )
    layout = make_layout(stored, shape, request, sizes, path, channels=image.channels)
    return FileSource(kind, adapter, path, layout, request.level, index, opening)


def micrometers(meters: Any) -> Any:
    """A size that is stored in meters; anything that is no number stays as it is, to be reported."""
    try:
        return float(meters) * 1e6
    except (TypeError, ValueError):
        return meters


def library(name: str, extra: str, path: str, what: str) -> ModuleType:
    """Import the library of a format.

    Raises
    ------
    ImportError
        Naming the extra that brings it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{path} is {what}, which needs: pip install 'napari-blockbuster[{extra}]' ({error})"
        ) from error
