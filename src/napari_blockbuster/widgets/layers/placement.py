"""Place of an image in the world: where the layers lie that are shown on it. No Qt.

A place is a dictionary of `scale`, `translate`, `affine` and `units`, as napari's layers take them. A voxel is first scaled
and translated, then moved by `affine`: whatever scale and translation cannot say, such as a rotation, a shear or a flip.
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
    "is_tilted",
    "is_turned",
    "mixes_axes",
    "place_of_image",
    "place_of_layer",
    "place_of_part",
    "scaled_at",
    "unknown_place",
    "voxel_at",
    "world_at",
]

FAR = 2.0**20
"""Voxels from the first one. There, a column of a layer's matrix is not lost beside a large translation."""


def place_of_layer(layer: Layer, ndim: int, level: int = 0) -> dict[str, Any]:
    """Return the place of one level of a layer, for layers with its last `ndim` axes."""
    factors = layer.downsample_factors[level] if getattr(layer, "multiscale", False) else np.ones(layer.ndim)
    scale, translate, affine = _parts(layer)
    keep = [*range(layer.ndim - ndim, layer.ndim), layer.ndim]
    return {
        "scale": (scale * factors)[-ndim:],
        "translate": translate[-ndim:],
        "affine": affine[np.ix_(keep, keep)],
        "units": tuple(layer.units)[-ndim:],
    }


def _parts(layer: Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scale and translation of a layer, and the affine matrix that remains."""
    n = layer.ndim
    scale, translate, rest = np.abs(layer.scale), np.asarray(layer.translate, float), np.eye(n + 1)
    linear, origin = _world_map(layer)
    if np.allclose(linear, np.diag(scale), rtol=1e-12, atol=0) and np.array_equal(origin, translate):
        return scale, translate, rest
    product = linear.T @ linear
    lengths = np.sqrt(np.diag(product))
    if np.allclose(product, np.diag(np.diag(product)), rtol=0, atol=1e-9 * product.max()):
        # Rotated, flipped or scaled, but not sheared: the edges of a voxel are as long as in the world.
        scale = np.where(np.isclose(lengths, scale, rtol=1e-9), scale, lengths)
    rest[:-1, :-1] = linear / scale
    if np.allclose(rest[:-1, :-1], np.eye(n), rtol=0, atol=1e-12):
        rest[:-1, :-1] = np.eye(n)
    rest[:-1, -1] = origin - rest[:-1, :-1] @ origin
    return scale, origin, rest


def _world_map(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix and the origin that take voxels of a layer to the world."""
    origin = np.asarray(layer.data_to_world((0.0,) * layer.ndim), float)
    ends = np.array([layer.data_to_world(FAR * row) for row in np.eye(layer.ndim)], float)
    linear = (ends - origin).T / FAR
    # Rounding must not look like a rotation.
    linear[np.abs(linear) < 1e-12 * np.abs(linear).max()] = 0
    return linear, origin


def mixes_axes(layer: Layer, ndim: int) -> bool:
    """Return whether a layer turns its last `ndim` axes into others."""
    linear, _ = _world_map(layer)
    first = layer.ndim - ndim
    return bool(linear[:first, first:].any() or linear[first:, :first].any())


def is_turned(place: dict[str, Any]) -> bool:
    """Return whether a place is more than a scale and a translation."""
    return not np.array_equal(place["affine"], np.eye(len(place["scale"]) + 1))


def is_tilted(place: dict[str, Any]) -> bool:
    """Return whether the planes of the last two axes are not parallel to those of the world."""
    linear = place["affine"][:-1, :-1]
    return bool(linear[:-2, -2:].any() or linear[-2:, :-2].any())


def place_of_image(source: ImageSource) -> dict[str, Any]:
    """Return the place of an image that has no layer yet."""
    affine = source.layout.affine
    return {
        "scale": np.asarray(source.scale, float),
        "translate": np.asarray(source.translation or (0.0,) * source.ndim, float),
        "affine": np.eye(source.ndim + 1) if affine is None else np.asarray(affine, float),
        "units": tuple(unit or "pixel" for unit in source.units),
    }


def unknown_place(ndim: int) -> dict[str, Any]:
    """Return the place of an image of which only the number of axes is known."""
    return {
        "scale": np.ones(ndim),
        "translate": np.zeros(ndim),
        "affine": np.eye(ndim + 1),
        "units": ("pixel",) * ndim,
    }


def place_of_part(place: dict[str, Any], start: Sequence[int]) -> dict[str, Any]:
    """Return the place of a part of an image that begins at voxel `start`."""
    return place | {"translate": scaled_at(place, start)}


def in_plane(place: dict[str, Any]) -> dict[str, Any]:
    """Return the place of a layer with only the last two axes. napari shows it on every plane. For places without tilt."""
    flat = {name: place[name][-2:] for name in ("scale", "translate", "units")}
    return flat | {"affine": place["affine"][-3:, -3:]}


def scaled_at(place: dict[str, Any], voxel: Any) -> np.ndarray:
    """Convert a voxel of the image to the translation of a layer whose first voxel lies there."""
    return np.asarray(place["translate"] + place["scale"] * np.asarray(voxel, float))


def world_at(place: dict[str, Any], voxel: Any) -> np.ndarray:
    """Convert a voxel of the image to world coordinates."""
    affine = place["affine"]
    return np.asarray(affine[:-1, :-1] @ scaled_at(place, voxel) + affine[:-1, -1])


def voxel_at(place: dict[str, Any], world: Any) -> np.ndarray:
    """Convert world coordinates to a voxel of the image, without rounding."""
    spatial = np.asarray(world, float)[-len(place["scale"]) :]
    affine = place["affine"]
    scaled = np.linalg.solve(affine[:-1, :-1], spatial - affine[:-1, -1])
    return np.asarray((scaled - place["translate"]) / place["scale"])


def center_of(box: Box) -> np.ndarray:
    """Return the center of a box in voxels. A voxel's center is its index."""
    return (np.asarray(box.start) + box.stop - 1) / 2
