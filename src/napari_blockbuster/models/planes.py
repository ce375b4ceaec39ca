"""Stacks of a single plane: models get them as 2D images, and their labels get the plane back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .base import Model, PixelSource, Segmenter, Suggestion, begin

__all__ = ["FlatImage", "begun", "plane_of", "prepared_on", "segmented", "suggested_for"]


class FlatImage:
    """A stack of a single plane, as a 2D image (see `PixelSource`).

    Attributes
    ----------
    left_out : int
        Spatial axis that is left out.
    """

    def __init__(self, image: PixelSource, left_out: int) -> None:
        self._image, self.left_out = image, left_out
        self.spatial_shape: tuple[int, ...] = _without(image.spatial_shape, left_out)
        self.spacing: tuple[float, ...] = _without(image.spacing, left_out)
        self.units: tuple[Any, ...] = _without(tuple(getattr(image, "units", ()))[-3:], left_out)
        self.dtype = image.dtype
        self.n_channels = image.n_channels

    def sample_blocks(self, max_voxels: int = 2**24) -> list[np.ndarray]:
        """Return the blocks of the image, in 2D."""
        return [block.squeeze(self.left_out) for block in self._image.sample_blocks(max_voxels)]


def _without(values: Sequence[Any], axis: int) -> tuple[Any, ...]:
    return tuple(value for place, value in enumerate(values) if place != axis)


def plane_of(image: Any, model: Model | None = None) -> int | None:
    """Return the spatial axis that a model does not see: z of a stack with a single plane; None for all other images.

    A model that was prepared for three axes, by an earlier version, sees all of them.
    """
    axis: int | None = getattr(image, "plane_axis", None)
    return None if axis is not None and len(getattr(model, "spacing", None) or ()) == 3 else axis


def _as_seen(image: PixelSource) -> PixelSource:
    axis = plane_of(image)
    return image if axis is None else FlatImage(image, axis)


def prepared_on(model: Model, image: PixelSource) -> Model:
    """Return a model that was prepared on the image as it will see it."""
    return model.prepare(_as_seen(image))


def suggested_for(model: Model, image: PixelSource) -> Suggestion:
    """Return the suggestion of a model, for all axes of the image."""
    found, axis = model.suggest(_as_seen(image)), plane_of(image)
    if axis is None:
        return found
    tile = None if found.tile_shape is None else _with(found.tile_shape, axis, 1)
    return Suggestion(tile, _with(found.halo, axis, 0))


def _with(values: Sequence[int], axis: int, value: int) -> tuple[int, ...]:
    return (*values[:axis], value, *values[axis:])


def segmented(segmenter: Segmenter, pixels: np.ndarray, plane: int | None) -> np.ndarray:
    """Return the labels of a tile, whose axis `plane` the segmenter does not see."""
    return begun(segmenter, pixels, plane)()


def begun(segmenter: Segmenter, pixels: np.ndarray, plane: int | None) -> Callable[[], np.ndarray]:
    """Do the part that needs the device (see `begin`). The returned callable does the rest and returns the labels."""
    if plane is None:
        return begin(segmenter, pixels)
    flat = pixels.squeeze(plane)
    return functools.partial(_with_plane, begin(segmenter, flat), flat.shape[:2], plane)


def _with_plane(rest: Callable[[], np.ndarray], shape: tuple[int, ...], plane: int) -> np.ndarray:
    labels = rest()
    # Anything else is refused with the labels of other tiles.
    found = getattr(labels, "shape", None)
    return np.expand_dims(labels, plane) if found is not None and tuple(found) == shape else labels
