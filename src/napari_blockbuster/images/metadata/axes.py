"""Axes, channels, levels and pixel types: what an image may be, checked in one place for all sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_blockbuster.images.base import ChannelNotChosenError, Layout
from napari_blockbuster.machine.units import shape_text

from .sizes import Sizes, voxel_sizes

__all__ = [
    "Request",
    "axes_of_names",
    "check_dtype",
    "check_level",
    "image_axes",
    "make_layout",
    "pick_channel",
    "plain_layout",
    "resolve_axes",
]

USUAL_AXES = {1: "x", 2: "yx", 3: "zyx"}
WORDS = {"time": "t", "channel": "c", "channels": "c", "sample": "s", "samples": "s"}
"""Names of axes in full."""


@dataclass(frozen=True)
class Request:
    """What the user asks of an image: see `napari_blockbuster.images.open_image`."""

    channel: int | str | None = None
    level: int = 0
    axes: str | None = None
    scene: int | str | None = None
    spacing: float | tuple[float | None, ...] | None = None


def image_axes(stored: str) -> str:
    """Axes of an image, from those of its stored pixels: without channels and color samples."""
    return "".join(a for a in stored if a not in "cs")


def axes_of_names(names: Any, kinds: Sequence[Any] | None = None) -> str | None:
    """One letter for each axis, from names and (where given) kinds: ``"time"``, ``"channel"``, ``"space"``.

    A kind counts more than a name, so that a channel axis of any name is one. Spatial axes that are not called z, y, x
    are named by their order. None if the axes cannot be told.
    """
    if not names:
        return None
    kinds = list(kinds) if kinds else [None] * len(names)
    letters = [_letter(name, kind) for name, kind in zip(names, kinds, strict=True)]
    unnamed = [i for i, letter in enumerate(letters) if letter == "?"]
    if unnamed:
        # By their order, all of them: one name among others says nothing.
        spatial = [i for i, letter in enumerate(letters) if letter in tuple("zyx?")]
        if len(spatial) > 3:
            return None
        for i, letter in zip(spatial, "zyx"[-len(spatial) :], strict=True):
            letters[i] = letter
    if None in letters:
        return None
    return "".join(str(letter) for letter in letters)


def _letter(name: Any, kind: Any) -> str | None:
    """One of t, c, s, z, y, x; "?" for an axis of space without a usual name; None for anything else."""
    if kind in ("time", "channel"):
        return str(kind)[0]
    text = name.lower() if isinstance(name, str) else ""
    text = WORDS.get(text, text)
    if text in tuple("tcszyx"):
        return text
    return "?" if kind == "space" else None


def resolve_axes(axes: str | None, shape: tuple[int, ...], what: str) -> str:
    """Check the axes of stored pixels; the usual ones for up to three axes without names.

    Raises
    ------
    ValueError
        If they are unclear or not those of an image.
    """
    if not 1 <= len(shape) <= 5 + ("s" in (axes or "")):
        raise ValueError(f"{what} has {len(shape)} axes of extent {shape}. Images have 1 to 5: time, channel, z, y, x")
    if any(isinstance(n, float) for n in shape):
        raise ValueError(f"{what} has the unknown shape {shape}. Call its compute_chunk_sizes() first")
    if 0 in shape:
        raise ValueError(f"{what} is empty: its shape is {shape}")
    if axes is None:
        axes = _usual_axes(shape, what)
    if len(axes) != len(shape):
        raise ValueError(f"axes={axes!r} names {len(axes)} axes, but {what} has {len(shape)} of extent {shape}")
    if "s" in axes and "c" not in axes:
        axes = axes.replace("s", "c")
    if len(set(axes)) != len(axes) or not set(axes) <= set("tczyxs"):
        raise ValueError(f"axes={axes!r}: use each of t, c, z, y, x at most once")
    if not set(axes) & set("zyx"):
        raise ValueError(f"axes={axes!r} of {what}: at least one of z, y, x is needed")
    if "t" in axes and image_axes(axes)[0] != "t":
        raise ValueError(
            f"{what} has its axes in the order {axes!r}, but time must come before z, y, x. "
            "Pass it as a dask array, transposed"
        )
    return axes


def _usual_axes(shape: tuple[int, ...], what: str) -> str:
    axes = USUAL_AXES.get(len(shape))
    if axes is None:
        raise ValueError(
            f"{what} has {len(shape)} axes of extent {shape} and does not name them. "
            f"Say which they are, as axes={'tczyx'[-len(shape) :]!r} (t time, c channel, z, y, x)"
        )
    if len(shape) == 3 and shape[2] in (3, 4) and shape[0] > 16 < shape[1]:
        raise ValueError(
            f"{what} of shape {shape} looks like a color image. Say axes='yxc' and a channel, "
            "or axes='zyx' if it is a stack"
        )
    return axes


def pick_channel(
    stored: str, shape: tuple[int, ...], channel: int | str | None, names: Sequence[str], what: str
) -> int | None:
    """Index of a channel by number or name; None for an image without channels.

    Color samples of a channel count as channels of their own: red, green and blue of the first, then of the second.
    """
    extents = [n for a, n in zip(stored, shape, strict=True) if a in "cs"]
    if not extents:
        if channel not in (None, 0, "0"):
            raise ValueError(f"channel is {channel!r}, but {what} has no channel axis. Leave it out")
        return None
    n = int(np.prod(extents))
    choices = [f"{i}" + (f" ({names[i]})" if i < len(names) and names[i] else "") for i in range(min(n, 12))]
    listing = ", ".join(choices)
    if channel is None:
        if n > 1:
            message = f"{what} has {n} channels. Say which one to segment, channel= (--channel): {listing}"
            raise ChannelNotChosenError(message, choices, [names[i] if i < len(names) else "" for i in range(n)])
        return 0
    if isinstance(channel, str) and channel and channel in names:
        if list(names).count(channel) > 1:
            raise ValueError(f"{what} has several channels called {channel!r}. Say which by number: {listing}")
        return list(names).index(channel)
    index = int(channel) if str(channel).isdecimal() else -1
    if not 0 <= index < n:
        raise ValueError(f"there is no channel {channel!r} in {what}. Its channels are {listing}")
    return index


def check_level(level: int, shapes: Sequence[tuple[int, ...]], what: str) -> None:
    """Refuse a level that does not exist."""
    if not 0 <= level < len(shapes):
        listing = "; ".join(f"{i}: {shape_text(shape)}" for i, shape in enumerate(shapes))
        raise ValueError(f"there is no level {level} in {what}. Its levels are {listing}")


def check_dtype(dtype: np.dtype[Any], what: str) -> None:
    """Refuse pixels that are not numbers, or complex ones."""
    if dtype.kind not in "biuf":
        remedy = ". Pass its magnitude, abs(image)" if dtype.kind == "c" else ""
        raise ValueError(f"{what} has pixels of type {dtype}. Images are of integers, floats or bools{remedy}")


def make_layout(
    stored: str,
    shape: tuple[int, ...],
    request: Request,
    sizes: Sizes,
    what: str,
    *,
    channels: Sequence[str] = (),
    translation: tuple[float, ...] | None = None,
) -> Layout:
    """The layout of an opened image, with its channel picked."""
    both = "c" in stored and "s" in stored
    samples = shape[stored.index("s")] if both else 1
    if both and channels:
        channels = [f"{name} {'RGBA'[k]}" if k < 4 else name for name in channels for k in range(samples)]
    return Layout(
        stored,
        pick_channel(stored, shape, request.channel, channels, what),
        sizes.scale,
        sizes.units,
        translation,
        samples,
        request.scene,
        request.spacing,
    )


def plain_layout(
    array: Any,
    request: Request,
    what: str,
    *,
    axes: str | None = None,
    channels: Sequence[str] = (),
    sizes: dict[str, Any] | None = None,
    units: dict[str, Any] | None = None,
) -> Layout:
    """The layout of an array without levels: `axes`, where it names them itself, and sizes, where it has some."""
    shape = tuple(array.shape)
    stored = resolve_axes(request.axes or axes, shape, what)
    check_dtype(np.dtype(array.dtype), what)
    named = image_axes(stored)
    extents = [n for a, n in zip(stored, shape, strict=True) if a in named]
    found = voxel_sizes(named, extents, sizes or {}, units or {}, what, spacing=request.spacing)
    return make_layout(stored, shape, request, found, what, channels=channels)
