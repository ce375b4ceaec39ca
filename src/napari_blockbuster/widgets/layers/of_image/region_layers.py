"""Regions of interest that users draw in the viewer: shapes and labels layers as a region in voxels of the image. No Qt."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from napari.layers import Labels, Layer, Shapes

from napari_blockbuster.geometry.roi import Roi
from napari_blockbuster.geometry.roi.mask_part import MaskPart
from napari_blockbuster.geometry.roi.polygon_part import PolygonPart
from napari_blockbuster.widgets.layers.placement import in_plane, place_of_layer, voxel_at, world_at

__all__ = ["DRAWING", "add_region_layer", "add_tissue_layer", "is_being_drawn", "roi_of_layer", "size_of_mask"]

MOST_VOXELS = 2**28
"""Largest mask that is read: of a pyramid, the finest level of at most this size."""
DRAWING = "Click the corners of the region in the viewer. To finish, double-click the last corner."
"""Hint while a user draws a region."""
ELLIPSE = 96
"""Corners of the polygon that stands for an ellipse."""


def roi_of_layer(layer: Layer, place: dict[str, Any], shape: tuple[int, ...]) -> Roi:
    """Return what is drawn in a shapes or labels layer.

    Shapes hold in all planes of the image; lines and paths of fewer than three points are ignored. Of a labels layer, all
    voxels but 0 are inside, at any resolution.

    Parameters
    ----------
    layer : napari.layers.Shapes or napari.layers.Labels
    place : dict
        Of the image (`napari_blockbuster.widgets.layers.placement`).
    shape : tuple of int
        Of the image.

    Raises
    ------
    ValueError
        If the layer is empty, outside the image, or turned relative to it.
    """
    part = _polygons(layer, place, shape) if isinstance(layer, Shapes) else _mask(layer, place, shape)
    roi = Roi(shape, (part,))
    if roi.is_empty:
        what = "Draw a polygon in it." if isinstance(layer, Shapes) else "Paint in it."
        raise ValueError(f"The layer “{layer.name}” is empty. {what}")
    if not roi.bounds().size:
        raise ValueError(f"No pixel of the image lies inside what the layer “{layer.name}” holds.")
    return roi


def add_region_layer(viewer: Any, place: dict[str, Any] | None) -> Shapes:
    """Add a shapes layer in which the user draws a polygon.

    Parameters
    ----------
    viewer : napari.Viewer
    place : dict or None
        Of the image; None if there is none.
    """
    layer = Shapes(ndim=2, name="Region", edge_color="#f0e442", face_color="#f0e44220")
    if place is not None:
        for name, value in in_plane(place).items():
            setattr(layer, name, value)
    viewer.add_layer(layer)
    layer.mode = "add_polygon"
    return layer


def is_being_drawn(layer: Layer | None) -> bool:
    """Return whether a user draws in a layer now, or is about to draw the first polygon."""
    if not isinstance(layer, Shapes):
        return False
    # Unfinished shapes are already among the data.
    return bool(getattr(layer, "_is_creating", False)) or (not layer.data and str(layer.mode).startswith("add_"))


def add_tissue_layer(viewer: Any, mask: np.ndarray, shape: tuple[int, ...], place: dict[str, Any]) -> Labels:
    """Add a coarse mask of an image as a labels layer that can be painted in.

    Parameters
    ----------
    viewer : napari.Viewer
    mask : numpy.ndarray
        bool, with the axes of the image.
    shape, place : tuple of int, dict
        Of the image.
    """
    factors = np.array([n / m for n, m in zip(shape, mask.shape, strict=True)])
    layer = Labels(
        mask.astype(np.uint8),
        name="Tissue",
        scale=place["scale"] * factors,
        translate=place["translate"] + (factors - 1) / 2 * place["scale"],
        affine=place["affine"],
        units=place["units"],
        opacity=0.4,
    )
    viewer.add_layer(layer)
    return layer


def size_of_mask(layer: Layer) -> int:
    """Return how many voxels of a layer are read; 0 for shapes."""
    return 0 if isinstance(layer, Shapes) else math.prod(_data(layer)[0].shape)


def _polygons(layer: Shapes, place: dict[str, Any], shape: tuple[int, ...]) -> PolygonPart:
    if len(shape) < 2:
        raise ValueError("Shapes need an image with two axes or more.")
    origin = world_at(place, np.zeros(len(shape)))
    found = []
    for corners, kind in zip(layer.data, layer.shape_type, strict=True):
        if kind == "line" or len(corners) < 3:
            continue
        world = np.array(
            [layer.data_to_world(corner) for corner in (_ellipse(corners) if kind == "ellipse" else corners)]
        )
        missing = len(shape) - world.shape[1]
        if missing > 0:
            # A layer in the plane lies at the origin along the other axes.
            world = np.concatenate([np.broadcast_to(origin[:missing], (len(world), missing)), world], axis=1)
        voxels = np.array([voxel_at(place, point) for point in world])
        # The center of a voxel is its index here, and half a voxel from its corner in a region.
        found.append([voxels[:, -2:] + 0.5])
    return PolygonPart.of(found, shape[-2:])


def _ellipse(corners: np.ndarray) -> np.ndarray:
    """Points on the ellipse in a rectangle of four corners."""
    center = corners.mean(axis=0)
    one, other = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    angles = np.linspace(0, 2 * np.pi, ELLIPSE, endpoint=False)[:, None]
    return np.asarray(center + np.cos(angles) * one + np.sin(angles) * other)


def _data(layer: Labels) -> tuple[Any, int]:
    """The level of a labels layer to read."""
    if not layer.multiscale:
        return layer.data, 0
    fitting = [k for k, level in enumerate(layer.data) if math.prod(level.shape) <= MOST_VOXELS]
    level = fitting[0] if fitting else len(layer.data) - 1
    return layer.data[level], level


def _mask(layer: Labels, place: dict[str, Any], shape: tuple[int, ...]) -> MaskPart:
    data, level = _data(layer)
    if math.prod(data.shape) > MOST_VOXELS:
        raise ValueError(f"The layer “{layer.name}” has more than {MOST_VOXELS:,} voxels. Use a coarser mask.")
    ndim = min(data.ndim, len(shape))
    if any(n > 1 for n in data.shape[: data.ndim - ndim]):
        raise ValueError(f"The layer “{layer.name}” has {data.ndim} axes, and the image has {len(shape)}.")
    there = place_of_layer(layer, ndim, level)
    keep = [*range(len(shape) - ndim, len(shape)), len(shape)]
    if not np.allclose(there["affine"], np.asarray(place["affine"])[np.ix_(keep, keep)], atol=1e-6):
        raise ValueError(f"The layer “{layer.name}” is rotated or sheared relative to the image.")
    step = place["scale"][-ndim:] / there["scale"]
    offset = (place["translate"][-ndim:] - there["translate"]) / there["scale"] + 0.5 - step / 2
    before = len(shape) - ndim
    voxels = np.asarray(data).reshape((1,) * before + data.shape[data.ndim - ndim :]) != 0
    return MaskPart.of(voxels, shape, [0.0] * before + step.tolist(), [0.0] * before + offset.tolist())
