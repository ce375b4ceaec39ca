"""All other formats, through bioio and its plugins: read plane by plane with dask."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from napari_blockbuster.images.metadata.axes import Request
from napari_blockbuster.images.metadata.scenes import Scene
from napari_blockbuster.images.places import Place

from .source import FileImage, FileSource, open_scene

__all__ = ["accepts", "open_file", "open_place", "scenes"]


def accepts(place: Place) -> bool:
    """Any file, if bioio has a plugin for it."""
    if place.path is None or not place.path.is_file() or importlib.util.find_spec("bioio") is None:
        return False
    import bioio
    from bioio_base.exceptions import UnsupportedFileFormatError

    try:
        bioio.BioImage.determine_plugin(place.text)
    except UnsupportedFileFormatError:
        return False
    return True


def scenes(place: Place) -> list[Scene]:
    return [Scene(str(name)) for name in _open(place.text).scenes]


def open_place(place: Place, request: Request) -> FileSource:
    return open_scene("bioio", __name__, place, request, scenes(place))


def open_file(path: str, scene: int, level: int) -> FileImage:
    image = _open(path)
    image.set_scene(scene)
    levels = tuple(image.resolution_levels)
    shapes = tuple(tuple(image.resolution_level_dims[k]) for k in levels) if len(levels) > 1 else None
    image.set_resolution_level(levels[min(level, len(levels) - 1)])
    pixels = image.dask_data
    voxel = image.physical_pixel_sizes
    sizes = {"z": voxel.Z, "y": voxel.Y, "x": voxel.X}
    return FileImage(
        _DaskArray(pixels),
        str(image.dims.order).lower(),
        shapes or (tuple(pixels.shape),),
        {axis: size for axis, size in sizes.items() if size is not None},
        dict.fromkeys("zyx", "micrometer"),
        [str(name) for name in image.channel_names or ()],
    )


def _open(path: str) -> Any:
    import bioio

    return bioio.BioImage(path)


class _DaskArray:
    def __init__(self, array: Any) -> None:
        self._array, self.shape, self.dtype = array, tuple(array.shape), array.dtype
        self.chunks = tuple(c[0] for c in array.chunks)

    def __getitem__(self, index: tuple[slice | int, ...]) -> np.ndarray:
        pixels: np.ndarray = self._array[tuple(index)].compute(scheduler="synchronous")
        return pixels
