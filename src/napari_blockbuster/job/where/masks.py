"""Masks and label images of any resolution, placed in the image that they belong to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from napari_blockbuster.geometry.roi.mask_part import MaskPart
from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import ChannelNotChosenError, ImageSource, open_image
from napari_blockbuster.images.metadata.sizes import conversion
from napari_blockbuster.machine.units import shape_text

from .frame import Frame

__all__ = ["read_mask"]

MOST_VOXELS = 2**28
"""Voxels of a mask that are read: a region needs no finer resolution, and it must fit into memory."""
SLAB = 2**24
"""Voxels that are read at a time."""
ALIKE = 1.1
"""Largest ratio of the factors along y and x of a mask that covers the same field as the image."""


def read_mask(mask: Any, frame: Frame, name: str) -> MaskPart:
    """Return a mask as a part of a region of interest. All voxels but 0 are inside.

    A mask covers the same field as the image, whatever its resolution, unless both say how large their voxels are and where
    they lie. A mask with fewer axes than the image holds along the others.

    Parameters
    ----------
    mask : path, URL, array or ImageSource
    frame : Frame
        The image.
    name : str
        For messages.

    Raises
    ------
    ValueError
        If the mask does not fit the image, or is too large.
    """
    source = _open(mask, frame, name)
    steps, offsets, extents = _placed(source, frame, name)
    voxels = _read(source)
    # In the order of the image's axes, and with one voxel along those that the mask does not have.
    order = [source.axes.index(axis) for axis in frame.axes if axis in source.axes]
    rest = [axis for axis in range(source.ndim) if axis not in order]
    voxels = voxels.transpose(*rest, *order).reshape(extents)
    return MaskPart.of(voxels, frame.shape, steps, offsets)


def _open(mask: Any, frame: Frame, name: str) -> ImageSource:
    if isinstance(mask, ImageSource):
        return mask
    shape = getattr(mask, "shape", None)
    options: dict[str, Any] = {}
    if shape is not None:
        if not 2 <= len(shape) <= len(frame.shape) and len(shape) != len(frame.shape):
            raise ValueError(
                f"{name} has {len(shape)} axes, and the image has {len(frame.shape)} ({', '.join(frame.axes)}). "
                "Give a mask with the axes of the image."
            )
        options["axes"] = "".join(frame.axes[-len(shape) :])
    for level in range(32):
        try:
            source = open_image(mask, level=level, **options)
        except ChannelNotChosenError as error:
            raise ValueError(f"{name} has {error.n_channels} channels. A mask has one.") from None
        except ValueError:
            if level == 0:
                raise
            break
        if math.prod(source.shape) <= MOST_VOXELS:
            return source
        if shape is not None:
            break
    raise ValueError(
        f"{name} has {math.prod(source.shape):,} voxels, more than {MOST_VOXELS:,}. Give the mask at a coarser resolution; "
        "any will do."
    )


def _read(source: ImageSource) -> np.ndarray:
    """The mask as bool, read plane by plane."""
    found = np.zeros(source.shape, bool)
    planes = max(SLAB // max(math.prod(source.shape[1:]), 1), 1)
    for first in range(0, source.shape[0], planes):
        last = min(first + planes, source.shape[0])
        box = Box((first, *(0,) * (source.ndim - 1)), (last, *source.shape[1:]))
        pixels = source.read(box)
        # Masks of floats often have NaN where there is nothing.
        found[first:last] = (pixels != 0) & ~np.isnan(pixels) if pixels.dtype.kind == "f" else pixels != 0
    return found


def _placed(source: ImageSource, frame: Frame, name: str) -> tuple[list[float], list[float], list[int]]:
    """Step, offset and extent of the mask along each axis of the image; see `MaskPart`."""
    there = dict(zip(source.axes, source.shape, strict=True))
    if extra := [axis for axis in source.axes if axis not in frame.axes and there[axis] > 1]:
        raise ValueError(f"{name} has an axis {extra[0]} that the image does not have ({', '.join(frame.axes)}).")
    own = _own_place(source, frame)
    steps, offsets, extents = [], [], []
    for axis, n, scale, translation in zip(frame.axes, frame.shape, frame.scale, frame.translation, strict=True):
        m = there.get(axis)
        if axis == "t" and m not in (None, 1, n):
            raise ValueError(
                f"{name} has {m} time points, and the image has {n}. Give a mask with one or {n} time points."
            )
        step, offset = (0.0, 0.0) if m is None else (m / n, 0.0)
        if own is not None and axis in own:
            size, start = own[axis]
            step = scale / size
            offset = (translation - start) / size + 0.5 - step / 2
        steps.append(step)
        offsets.append(offset)
        extents.append(1 if m is None else m)
    if own is None:
        _check_field(dict(zip(frame.axes, steps, strict=True)), source, frame, name)
    return steps, offsets, extents


def _own_place(source: ImageSource, frame: Frame) -> dict[str, tuple[float, float]] | None:
    """Size of a voxel and place of the first one along each axis of a mask, in units of the image.

    None if the mask or the image does not say, or if both cover the same field: levels of a pyramid often say nothing of
    the half voxel by which their centers differ.
    """
    mask = Frame(
        source.axes,
        source.shape,
        source.scale,
        source.translation or (0.0,) * source.ndim,
        source.units,
        (1.0,) * source.ndim,
    )
    if not (mask.has_sizes and frame.has_sizes):
        return None
    found, same = {}, True
    for axis, n, scale, place, unit in zip(
        frame.axes, frame.shape, frame.scale, frame.translation, frame.units, strict=True
    ):
        if axis not in mask.axes or axis == "t":
            continue
        k = mask.axes.index(axis)
        theirs = mask.units[k]
        if unit is None or theirs is None:
            return None
        factor = conversion(theirs, unit)
        size, start = mask.scale[k] * factor, mask.translation[k] * factor
        found[axis] = size, start
        same &= abs(n * scale - mask.shape[k] * size) < max(scale, size) and abs(start - place) <= max(scale, size) / 2
    return None if same else found


def _check_field(steps: dict[str, float], source: ImageSource, frame: Frame, name: str) -> None:
    """Refuse a mask whose outline differs from that of the image: it shows another field."""
    y, x = steps.get("y", 0.0), steps.get("x", 0.0)
    if not (y and x):
        return
    # A small mask is rounded to whole voxels.
    slack = 1 + 1 / min(source.shape[source.axes.index("y")], source.shape[source.axes.index("x")])
    if max(y / x, x / y) > ALIKE * slack:
        theirs = shape_text(source.shape)
        raise ValueError(
            f"{name} has the shape {theirs}, and the image {frame.named()}: they do not show the same field. Give a mask of "
            "the whole image at any resolution, or one that stores its voxel size and its offset."
        )
