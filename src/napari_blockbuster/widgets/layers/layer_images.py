"""Images of layers: the image that a layer shows, and the layer that shows an image."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pint
from napari.layers import Image, Layer

from napari_blockbuster.images import ImageSource, open_image
from napari_blockbuster.images.zarr.source import StoredSource

from . import origins
from .lazy import LazyView

__all__ = [
    "ORIGIN",
    "image_of",
    "level_shapes",
    "origin_of",
    "same_image",
    "showing",
    "unit_of",
    "usual_axes",
]

ORIGIN = "blockbuster image"
"""Key in a layer's metadata for the file of its lazy view. Readers of napari set `Layer.source` instead."""


def level_shapes(layer: Image) -> list[tuple[int, ...]]:
    """Return the shapes of a layer's resolution levels, the finest first."""
    return [tuple(level.shape) for level in layer.data] if layer.multiscale else [tuple(layer.data.shape)]


def usual_axes(layer: Image) -> str:
    """Return the axes of a layer: its axis labels if they name axes, otherwise the usual ones in napari."""
    ndim = len(level_shapes(layer)[0])
    names = [str(name).lower() for name in getattr(layer, "axis_labels", ())]
    if len(names) == ndim and set(names) <= set("tczyx"):
        return "".join(names)
    # The first of four axes is time: napari shows a slider for it.
    return {1: "x", 2: "yx", 3: "zyx", 4: "tzyx", 5: "tczyx"}.get(ndim, "")


def image_of(layer: Image, axes: str, level: int = 0, channel: int | None = None) -> ImageSource:
    """Return the image that a layer shows. Call it in a thread, because pixels in memory are compared with their file.

    The image is a file, which workers can read, if the file has the same pixels (`napari_blockbuster.widgets.layers.origins`).

    Parameters
    ----------
    layer : napari.layers.Image
    axes : str
        Axes of the layer's data, for example ``"tzyx"``.
    level : int
        Level of a multiscale layer.
    channel : int, optional
        Channel, if `axes` has a ``c``.

    Raises
    ------
    ValueError
        If the layer cannot be segmented. The message gives the remedy.
    """
    if layer.rgb:
        raise ValueError(
            f"Layer {layer.name} is an RGB image. Right-click the layer → Split RGB, then choose one channel."
        )
    if "c" in axes and not axes.startswith("c"):
        raise ValueError(
            f"The channel axis of layer {layer.name} is not the first axis. Right-click the layer → Split Stack."
        )
    data = layer.data[level] if layer.multiscale else layer.data
    return _scaled(_opened(data, layer, axes, level, channel), layer, level)


def _opened(data: Any, layer: Image, axes: str, level: int, channel: int | None) -> ImageSource:
    """Return the image of some data: their file if it has the same pixels, otherwise the data themselves."""
    if isinstance(data, LazyView) and data.source is not None and data.source.axes == tuple(axes):
        return copy.copy(data.source)
    path = _origin(layer)["path"]
    file = None if path is None else _file(str(path), level, channel, axes, tuple(data.shape))
    location = origins.zarr_location(data)
    if location is not None:
        if isinstance(file, StoredSource) and _same_place(Path(file.location), location):
            return file
        return open_image(str(location), axes=axes, channel=channel)
    memory = open_image(data, axes=axes, channel=channel)
    if file is None or not isinstance(data, np.ndarray) or not origins.same_pixels(file, memory):
        return memory
    origins.hold(file, memory)
    return file


def _same_place(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _file(path: str, level: int, channel: int | None, axes: str, shape: tuple[int, ...]) -> ImageSource | None:
    """Return the file that a layer was read from, if the shape is the same."""
    try:
        found = open_image(path, level=level, channel=channel)
    except (OSError, ValueError):
        return None
    spatial = tuple(n for a, n in zip(axes, shape, strict=True) if a != "c")
    return found if found.shape == spatial and "".join(found.axes) == axes.replace("c", "") else None


def _scaled(source: ImageSource, layer: Image, level: int) -> ImageSource:
    """Give an image the scale, units and translation of its layer, if the layer has any."""
    factors = layer.downsample_factors[level] if layer.multiscale else np.ones(layer.ndim)
    scale = tuple(float(s) for s in (layer.scale * factors)[-source.ndim :])
    units = tuple(None if str(u) == "pixel" else str(u) for u in layer.units[-source.ndim :])
    translation = tuple(float(t) for t in layer.translate[-source.ndim :])
    layout = source.layout
    if not np.allclose(layer.scale, 1) or any(units):
        layout = replace(layout, units=units if any(units) else layout.units)
        if not np.allclose(scale, layout.scale):
            layout = replace(layout, scale=scale)
    if level == 0 and any(translation) and not np.allclose(translation, layout.translation or 0):
        layout = replace(layout, translation=translation)
    source.layout = layout
    if source.local_path is None:
        source.name = layer.name
    return source


def unit_of(source: ImageSource) -> str | None:
    """Return the symbol of the unit of an image's voxels; None if it has no unit."""
    unit = next((unit for unit in reversed(source.units) if unit), None)
    if unit is None:
        return None
    try:
        return f"{pint.get_application_registry().Unit(unit):~P}"
    except (pint.UndefinedUnitError, ValueError):
        return unit


def showing(among: Iterable[Layer], source: ImageSource) -> Image | None:
    """Return the layer that shows an image; None if there is none."""
    path = source.local_path
    if path is None:
        return None
    images = [layer for layer in among if isinstance(layer, Image)]
    of_file = [
        layer
        for layer in images
        if (origin := _origin(layer).get("path"))
        and Path(origin).absolute() == path.absolute()
        and _may_show(layer, source)
    ]
    # Several layers may show different channels of one file.
    return next((layer for layer in of_file if _origin(layer) == origin_of(source)), of_file[0] if of_file else None)


def _may_show(layer: Image, source: ImageSource) -> bool:
    """Return whether a layer may still show its file. Its data may have been replaced."""
    data = layer.data[0] if layer.multiscale else layer.data
    if isinstance(data, LazyView):
        return data.source is not None
    return set(source.shown.shape) <= {1, *data.shape}


def origin_of(source: ImageSource) -> dict[str, Any]:
    """Return file, level and channel of an image, for the metadata of its layer."""
    described = source.shown.describe()
    return {name: described.get(name) for name in ("path", "level", "channel")}


def _origin(layer: Image) -> dict[str, Any]:
    own = layer.metadata.get(ORIGIN)
    return own if isinstance(own, dict) else {"path": getattr(layer.source, "path", None)}


def same_image(one: ImageSource, other: ImageSource) -> bool:
    """Return whether two sources are the same image, judged without reading pixels."""
    return one is other or (one.local_path is not None and one.describe() == other.describe())
