"""Sentences about the chosen image, and the layers that can be channels of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from napari.layers import Image

from napari_blockbuster.images import ImageSource
from napari_blockbuster.widgets.controls import bytes_text, times
from napari_blockbuster.widgets.layers.of_image import layer_images
from napari_blockbuster.widgets.layers.placement import place_of_layer
from napari_blockbuster.widgets.texts import voxels_name

__all__ = ["facts", "same_size"]

TURNED = (
    "The layer is rotated, sheared or flipped. The labels lie on it in napari. OME-Zarr stores only scale and place, "
    "so other programs will show the labels without it."
)


def facts(source: ImageSource, size_known: bool, turned: bool) -> str:
    """Describe an image: shape, type, size, and what to know before a run.

    Parameters
    ----------
    source : ImageSource
    size_known : bool
        Whether the voxel size is known.
    turned : bool
        Whether the layer is rotated, sheared or flipped.
    """
    size = bytes_text(source.dtype.itemsize * math.prod(source.shape) * source.n_channels)
    text = f"{times(source.shape)} {source.dtype}, {size}."
    name = voxels_name(len(source.spatial_shape))
    if not size_known:
        same = "square" if name == "pixel" else "cubic"
        text += f" The {name} size is unknown. Without it, {name}s count as {same}."
    elif not any(source.units[source.separate_axes :]):
        text += f" The {name} size has no unit."
    if source.n_channels > 1:
        text += f" {source.n_channels} channels."
    if turned:
        text += f" {TURNED}"
    if not source.describe().get("path"):
        text += " It is only in memory: save it to resume a run without this layer, or from the command line."
    return text


def same_size(layer: Image, others: Iterable[Image]) -> list[Image]:
    """Return a layer and the others that can be further channels of it: equal in shape and place."""
    shapes = layer_images.level_shapes(layer)
    found = [layer]
    for other in others:
        if other is layer or other.rgb or layer_images.level_shapes(other) != shapes:
            continue
        mine, theirs = place_of_layer(layer, layer.ndim), place_of_layer(other, other.ndim)
        if all(_is_close(mine[name], theirs[name]) for name in ("scale", "translate", "affine")):
            found.append(other)
    return found


def _is_close(one: Any, other: Any) -> bool:
    return len(one) == len(other) and abs(one - other).max() < 1e-9
