"""Images of layers: the image that a layer shows, and the layer that shows an image."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pint
from napari.layers import Image, Layer

from napari_blockbuster.images import ChannelsSource, ImageSource, list_scenes, open_image
from napari_blockbuster.images.metadata.sizes import Sizes, conversion, level_factor, voxel_sizes
from napari_blockbuster.images.zarr.source import StoredSource
from napari_blockbuster.widgets.layers.placement import is_turned, mixes_axes, place_of_layer

from . import origins
from .lazy import LazyView

__all__ = [
    "ORIGIN",
    "image_of",
    "level_factors",
    "level_shapes",
    "micrometers",
    "opened",
    "origin_of",
    "placed",
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
    ndim = len(level_shapes(layer)[0]) - layer.rgb
    names = [str(name).lower() for name in getattr(layer, "axis_labels", ())]
    if len(names) == ndim and len(set(names)) == ndim and set(names) <= set("tczyx"):
        return "".join(names) + "c" * layer.rgb
    # The first of four axes is time: napari shows a slider for it.
    return {1: "x", 2: "yx", 3: "zyx", 4: "tzyx", 5: "tczyx"}.get(ndim, "") + "c" * layer.rgb


def image_of(
    layer: Image,
    axes: str,
    level: int = 0,
    channel: int | Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    others: Sequence[Image] = (),
) -> ImageSource:
    """Return the image that a layer shows. Call it in a thread, because pixels in memory are compared with their file.

    The image is a file, which workers can read, if the file has the same pixels: see
    `napari_blockbuster.widgets.layers.of_image.origins`.

    Parameters
    ----------
    layer : napari.layers.Image
    axes : str
        Axes of the layer's data, for example ``"tzyx"``. The samples of an RGB layer are a last axis ``c``.
    level : int
        Level of a multiscale layer.
    channel : int or sequence of int, optional
        Channel, or several of them, if `axes` has a ``c``.
    spacing : sequence of float, optional
        See `placed`.
    others : sequence of napari.layers.Image
        Layers of the same shape that are further channels, after this layer.

    Raises
    ------
    ValueError
        If the layer cannot be segmented. The message gives the remedy.
    """
    return placed(opened(layer, axes, level, channel, others), layer, level, spacing)


def opened(
    layer: Image,
    axes: str,
    level: int = 0,
    channel: int | Sequence[int] | None = None,
    others: Sequence[Image] = (),
) -> ImageSource:
    """Return the pixels of a layer, without its place. See `image_of`."""
    if "c" in axes and not axes.startswith("c") and not layer.rgb:
        raise ValueError(
            f"The channel axis of layer {layer.name} is not the first axis. Right-click the layer → Split Stack."
        )
    channels = [channel] if channel is None or isinstance(channel, int) else list(channel)
    parts = [(layer, number) for number in channels] + [(other, None) for other in others]
    shape = level_shapes(layer)[level]
    for other in others:
        if level_shapes(other)[level : level + 1] != [shape]:
            raise ValueError(f"Layers {layer.name} and {other.name} have different shapes, so they are not one image.")
    found = [_opened(_data(each, level), each, axes, level, number) for each, number in parts]
    if len(found) == 1:
        return origins.file_or_memory(*found[0])
    numbers = [number for _, number in parts]
    file = None if any(file is None for file, _ in found) else ChannelsSource([f for f, _ in found if f], numbers)
    held = [memory for _, memory in found if memory is not None]
    memory = ChannelsSource([memory or file for file, memory in found], numbers) if held else None  # type: ignore[misc]
    return origins.file_or_memory(file, memory)


def _data(layer: Image, level: int) -> Any:
    return layer.data[level] if layer.multiscale else layer.data


def _opened(
    data: Any, layer: Image, axes: str, level: int, channel: int | None
) -> tuple[ImageSource | None, ImageSource | None]:
    """Return the file with the pixels of some data, if there is one, and the pixels themselves if they are in memory."""
    if isinstance(data, LazyView) and data.source is not None and data.source.axes == tuple(axes):
        return copy.copy(data.source), None
    origin = _origin(layer)
    shape = tuple(data.shape)
    location = origins.zarr_location(data)
    if location is not None:
        for file in _files(origin, level, channel, axes, shape):
            if isinstance(file, StoredSource) and _same_place(Path(file.location), location):
                return file, None
        return open_image(str(location), axes=axes, channel=channel), None
    memory = open_image(data, axes=axes, channel=channel)
    memory.name = layer.name
    if isinstance(data, np.ndarray):
        for file in _files(origin, level, channel, axes, shape):
            if origins.same_pixels(file, memory):
                return file, memory
    return None, memory


def _same_place(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _files(
    origin: dict[str, Any], level: int, channel: int | None, axes: str, shape: tuple[int, ...]
) -> Iterator[ImageSource]:
    """Yield the images of the same shape in the file that a layer was read from. A reader may have chosen any scene."""
    if not origin.get("path"):
        return
    path = str(origin["path"])
    spatial = tuple(n for a, n in zip(axes, shape, strict=True) if a != "c")
    scenes: list[int | str | None] = [origin.get("scene")]
    if scenes == [None]:
        try:
            n_scenes = len(list_scenes(path))
        except (OSError, ValueError):
            return
        scenes += range(n_scenes) if n_scenes > 1 else []
    for scene in scenes:
        try:
            found = open_image(path, level=level, channel=channel, scene=scene)
        except (OSError, ValueError):
            continue
        if found.shape == spatial and "".join(found.axes) == axes.replace("c", ""):
            yield found


def placed(source: ImageSource, layer: Image, level: int = 0, spacing: Sequence[float] | None = None) -> ImageSource:
    """Return an image with the place and the voxel size of its layer, if the layer has any.

    Parameters
    ----------
    source : ImageSource
        Result of `opened`.
    layer : napari.layers.Image
    level : int
    spacing : sequence of float, optional
        Voxel size along each spatial axis of level 0 in micrometers, from the user. It counts more than the layer's.

    Raises
    ------
    ValueError
        If the layer turns the axes of the image into others, or if `spacing` does not fit.
    """
    if mixes_axes(layer, source.ndim):
        raise ValueError(f"Layer {layer.name} is rotated or sheared along its channels. Undo that transform first.")
    place, own = place_of_layer(layer, source.ndim, level), source.layout
    sizes, given = _sizes(source, layer, level, spacing)
    # What the layer says in nanometers may stand on disk in micrometers.
    units = [_named(unit) for unit in place["units"]]
    convert = np.array([conversion(a, b) if a and b else 1.0 for a, b in zip(units, sizes.units, strict=True)])
    translation = tuple(float(t) for t in place["translate"] * convert)
    affine = None
    if is_turned(place):
        matrix = np.array(place["affine"])
        matrix[:-1] *= convert[:, None]
        matrix[:, :-1] /= convert
        affine = tuple(tuple(map(float, row)) for row in matrix)
    elif not _has_moved(translation, own.translation, sizes.scale, level):
        translation = own.translation  # type: ignore[assignment]
    return origins.with_layout(
        source, scale=sizes.scale, units=sizes.units, translation=translation, affine=affine, spacing=given
    )


def _sizes(
    source: ImageSource, layer: Image, level: int, spacing: Sequence[float] | None
) -> tuple[Sizes, tuple[float, ...] | None]:
    """Return the voxel size, and the sizes at level 0 in micrometers if they are not those of the file."""
    own, axes = source.layout, "".join(source.axes)
    full = _full_shape(source, layer)
    factors = {a: level_factor(n, here) for a, n, here in zip(axes, full, source.shape, strict=True)}
    place = place_of_layer(layer, source.ndim)
    units = [_named(unit) for unit in place["units"]]
    is_set = any(units) or not np.allclose(place["scale"], 1)
    # napari has a scale for each axis. Without one, that of the file counts.
    scale = place["scale"] if is_set else [s / factors[a] for a, s in zip(axes, own.scale, strict=True)]
    decide = functools.partial(
        voxel_sizes,
        axes,
        full,
        {a: float(s) for a, s in zip(axes, scale, strict=True)},
        dict(zip(axes, units if any(units) else own.units, strict=True)),
        f"layer {layer.name}",
        factors=factors,
    )
    found = decide(spacing=spacing)
    if spacing is not None:
        # A size that is taken from another axis is typed as well.
        given = _given(found, factors)
        return decide(spacing=given), given
    given = _given(found, factors)
    stored = Sizes(own.scale, own.units)
    # A size without a unit is not the same as one with a unit.
    if _is_sized(found) == _is_sized(stored) and np.allclose(given, _given(stored, factors), rtol=1e-6):
        times = [a == "t" for a in axes]
        is_same = np.allclose(np.compress(times, found.scale), np.compress(times, own.scale))
        return stored if is_same else found, own.spacing
    return found, given


def _is_sized(sizes: Sizes) -> bool:
    return sizes.units[-1] is not None


def _given(found: Sizes, factors: dict[str, float]) -> tuple[float, ...]:
    """Return sizes along the spatial axes of level 0, in micrometers."""
    by_axis = zip(factors, found.scale, found.units, strict=True)
    sizes = {
        a: s / factors[a] * (conversion(unit, "micrometer") if unit else 1.0) for a, s, unit in by_axis if a != "t"
    }
    return tuple(sizes.values())


def _full_shape(source: ImageSource, layer: Image) -> tuple[int, ...]:
    return level_shapes(layer)[0][layer.ndim - source.ndim : layer.ndim]


def level_factors(source: ImageSource, layer: Image) -> list[float]:
    """Return how much longer a voxel of the image is than one of level 0, along each spatial axis."""
    pairs = zip(_full_shape(source, layer), source.shape, strict=True)
    return [level_factor(full, here) for full, here in pairs][source.separate_axes :]


def micrometers(source: ImageSource) -> list[float]:
    """Return the voxel size along each spatial axis in micrometers, or as it is if it has no unit."""
    frames = source.separate_axes
    pairs = zip(source.scale[frames:], source.units[frames:], strict=True)
    return [size * (conversion(unit, "micrometer") if unit else 1.0) for size, unit in pairs]


def _named(unit: Any) -> str | None:
    return None if str(unit) in ("pixel", "dimensionless", "") else str(unit)


def _has_moved(now: Sequence[float], stored: Sequence[float] | None, scale: Sequence[float], level: int) -> bool:
    """Return whether a layer lies elsewhere than its file says."""
    if not any(now):
        # Readers that know no translation put every image at 0.
        return False
    tolerance = scale if level else np.multiply(scale, 1e-6)
    # The first voxel of a coarser level lies a part of a voxel from that of the full resolution.
    return bool((np.abs(np.subtract(now, stored or np.zeros(len(now)))) > tolerance).any())


def unit_of(source: ImageSource) -> str | None:
    """Return the symbol of the unit of an image's voxels; None if it has no unit."""
    unit = next((unit for unit in reversed(source.units) if unit), None)
    if unit is None:
        return None
    try:
        symbol = f"{pint.get_application_registry().Unit(unit):~P}"
        # Registries differ in how they write the prefix.
        return "µm" if symbol in ("um", "\u03bcm") else symbol
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
        return data.has_source
    return set(source.shown.shape) <= {1, *data.shape}


def origin_of(source: ImageSource) -> dict[str, Any]:
    """Return file, level, channel and scene of an image, for the metadata of its layer."""
    described = source.shown.describe()
    scene = {} if described.get("scene") is None else {"scene": described["scene"]}
    return {name: described.get(name) for name in ("path", "level", "channel")} | scene


def _origin(layer: Image) -> dict[str, Any]:
    own = layer.metadata.get(ORIGIN)
    return own if isinstance(own, dict) else {"path": getattr(layer.source, "path", None)}


def same_image(one: ImageSource, other: ImageSource) -> bool:
    """Return whether two sources are the same image, judged without reading pixels. Pixels in memory may have other sizes."""
    arrays = [[getattr(part, "_array", None) for part in getattr(each, "parts", [each])] for each in (one, other)]
    if len(arrays[0]) == len(arrays[1]) and all(a is b is not None for a, b in zip(*arrays, strict=True)):
        return one.layout.channel == other.layout.channel and one.shape == other.shape
    return one is other or (one.local_path is not None and one.describe() == other.describe())
