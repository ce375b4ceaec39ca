"""Place of an image in the world: scale, translation and units of the layers that lie on it. No Qt.

A place is a dictionary of these three, as napari's layers take them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Layer

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import ImageSource

__all__ = [
    "center_of",
    "in_plane",
    "place_of_image",
    "place_of_layer",
    "place_of_part",
    "unknown_place",
    "voxel_at",
    "world_at",
]


def place_of_layer(layer: Layer, ndim: int, level: int = 0) -> dict[str, Any]:
    """Return the place of one level of a layer, for layers with `ndim` axes."""
    factors = layer.downsample_factors[level] if getattr(layer, "multiscale", False) else np.ones(layer.ndim)
    return {
        "scale": (np.asarray(layer.scale) * factors)[-ndim:],
        "translate": np.asarray(layer.translate)[-ndim:],
        "units": tuple(layer.units)[-ndim:],
    }


def place_of_image(source: ImageSource) -> dict[str, Any]:
    """Return the place of an image that has no layer yet."""
    return {
        "scale": np.asarray(source.scale, float),
        "translate": np.asarray(source.translation or (0.0,) * source.ndim, float),
        "units": tuple(unit or "pixel" for unit in source.units),
    }


def unknown_place(ndim: int) -> dict[str, Any]:
    """Return the place of an image of which only the number of axes is known."""
    return {"scale": np.ones(ndim), "translate": np.zeros(ndim), "units": ("pixel",) * ndim}


def place_of_part(place: dict[str, Any], start: Sequence[int]) -> dict[str, Any]:
    """Return the place of a part of an image that begins at voxel `start`."""
    return place | {"translate": world_at(place, start)}


def in_plane(place: dict[str, Any]) -> dict[str, Any]:
    """Return the place of a layer with only the last two axes. napari shows it on every plane."""
    return {name: values[-2:] for name, values in place.items()}


def world_at(place: dict[str, Any], voxel: Any) -> np.ndarray:
    """Convert a voxel of the image to world coordinates."""
    return np.asarray(place["translate"] + place["scale"] * np.asarray(voxel, float))


def voxel_at(place: dict[str, Any], world: Any) -> np.ndarray:
    """Convert world coordinates to a voxel of the image, without rounding."""
    spatial = np.asarray(world, float)[-len(place["scale"]) :]
    return np.asarray((spatial - place["translate"]) / place["scale"])


def center_of(box: Box) -> np.ndarray:
    """Return the center of a box in voxels. A voxel's center is its index."""
    return (np.asarray(box.start) + box.stop - 1) / 2
