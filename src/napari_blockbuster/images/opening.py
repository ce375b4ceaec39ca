"""From what a user has (a path, an address, an array) to an image. A new format is one file and one line here."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.images.formats.planes import find_planes
from napari_blockbuster.images.formats.planes import open_place as open_planes
from napari_blockbuster.images.metadata.axes import Request
from napari_blockbuster.images.metadata.scenes import Scene

from .arrays import open_in_memory
from .base import ChannelNotChosenError, ImageSource
from .channels import PARTS, ChannelsSource
from .places import Place, is_remote, locate, zip_file_of

__all__ = ["is_image_file", "list_scenes", "open_all_channels", "open_image", "source_from_description"]

FORMATS = (
    ("tiff", ".tiff.source"),
    ("czi", ".formats.czi"),
    ("nd2", ".formats.nd2"),
    ("lif", ".formats.lif"),
    ("ims", ".formats.ims"),
    ("slide", ".formats.slide"),
    ("n5", ".formats.n5"),
    ("zarr", ".zarr.folders"),
    ("bioio", ".formats.bioio"),
)
"""Kind of a description, and the module that reads it. A module loads the library of its format when it opens a file.

Each has ``accepts(place)``, ``open_place(place, request)`` and ``scenes(place)``. The first that accepts a place opens it.
"""


def open_image(
    image: Any,
    *,
    channel: int | str | Sequence[int | str] | None = None,
    level: int = 0,
    axes: str | Sequence[str] | None = None,
    scene: int | str | None = None,
    spacing: float | Sequence[float | None] | None = None,
) -> ImageSource:
    """Open an image at one level: one channel, or those that a model shall see together. No pixel is read.

    Parameters
    ----------
    image : path, URL, zarr.Array, dask array, xarray.DataArray or numpy array
        OME-Zarr 0.1 to 0.6, zarr v2 or v3 (folder, zip file or address), TIFF in all its forms, CZI, ND2, LIF, IMS, N5 and
        what bioio reads; or an array.
    channel : int, str or sequence of these, optional
        Index along the channel axis, or its name where the image names channels. Needed if there are several.
        A sequence of them: pixels get one axis more, the last, for models that take several channels.
    level : int, default 0
        Level of a pyramid, 0 the finest.
    axes : str, optional
        Names of the axes, as ``"tczyx"``; needed where the image does not say and there are more than three. With a folder or
        pattern of TIFF files: these are the planes of one image with these axes.
    scene : int or str, optional
        Number or name of an image in a file that holds several.
    spacing : float or sequence of float, optional
        Size of a voxel along each spatial axis at full resolution, in micrometers; counts instead of the stored one.

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    ImageReadError
        If it cannot be read.
    ValueError
        If axes, channel, level or scene are unclear or do not exist; the message says what there is.
    """
    if channel is not None and not isinstance(channel, (int, np.integer, str)):
        return _open_channels(image, list(channel), level=level, axes=axes, scene=scene, spacing=spacing)
    named = None if axes is None else "".join(axes).lower()
    request = Request(channel, level, named, scene, _numbers(spacing))
    if isinstance(image, (str, os.PathLike)):
        planes = None if named is None else find_planes(os.fspath(image), named)
        place = planes or locate(os.fspath(image))
        source: ImageSource = (open_planes if planes else _format_of(place).open_place)(place, request)
        return source
    return open_in_memory(image, request)


def open_all_channels(image: Any, **options: Any) -> tuple[list[ImageSource], list[str]]:
    """Open an image at each of its channels.

    Parameters
    ----------
    image : path, URL or array
    **options
        Those of `open_image`, without ``channel``.

    Returns
    -------
    list of ImageSource, list of str
        And the names of the channels, "" for one without; empty for an image with one channel.
    """
    try:
        return [open_image(image, **options)], []
    except ChannelNotChosenError as error:
        return [open_image(image, channel=i, **options) for i in range(len(error.names))], error.names


def list_scenes(image: Any) -> list[Scene]:
    """The images in a file or folder; one for an array.

    Parameters
    ----------
    image : path, URL or array
    """
    if not isinstance(image, (str, os.PathLike)):
        return [Scene("")]
    place = locate(os.fspath(image))
    scenes: list[Scene] = _format_of(place).scenes(place)
    return scenes


def is_image_file(place: Place) -> bool:
    """Whether a file looks like one that can be read; for lists of what is in a folder."""
    try:
        _format_of(place)
    except (ValueError, OSError):
        return False
    return True


def _format_of(place: Place) -> Any:
    for _, name in FORMATS:
        module = importlib.import_module(name, __package__)
        if module.accepts(place):
            return module
    if place.text.lower().endswith(".ome") or place.start() == b"<?xml version=":
        raise ValueError(f"{place.text} holds only metadata. Pass one of the TIFF files that it describes")
    raise ValueError(
        f"{place.text} is a file but no TIFF. Images are OME-Zarr and zarr folders, and TIFF, CZI, ND2, LIF and IMS files. "
        "For others: pip install 'napari-blockbuster[bioio]' and the plugin of bioio for the format"
    )


def _numbers(spacing: Any) -> float | tuple[float | None, ...] | None:
    try:
        if spacing is None or isinstance(spacing, int | float):
            return spacing
        if not isinstance(spacing, str):
            return tuple(None if number is None else float(number) for number in spacing)
        raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            f"spacing is {spacing!r}. Give the size of a voxel in micrometers, one number or one per spatial axis"
        ) from None


def _open_channels(image: Any, channels: list[int | str], **options: Any) -> ImageSource:
    if not channels:
        raise ValueError("channel is an empty list. Give one channel or more, or leave it out")
    parts = [open_image(image, channel=channel, **options) for channel in channels]
    found = [part.layout.channel or 0 for part in parts]
    if len(set(found)) < len(found):
        raise ValueError(f"channel is {channels}, which names a channel twice. A model sees each once")
    return parts[0] if len(parts) == 1 else ChannelsSource(parts, found)


def source_from_description(description: dict[str, Any]) -> ImageSource:
    """Open an image again from what `ImageSource.describe` returned.

    Raises
    ------
    ValueError
        If it was in memory.
    OSError
        If it is not there any more.
    """
    source = _opened_again(description)
    # The user may have known better than the file.
    for name in ("scale", "units", "translation"):
        values = tuple(description.get(name) or ())
        if len(values) == source.ndim:
            source.layout = replace(source.layout, **{name: values})  # type: ignore[arg-type]
    if affine := description.get("affine"):
        source.layout = replace(source.layout, affine=tuple(tuple(map(float, row)) for row in affine))
    return source


def _opened_again(description: dict[str, Any]) -> ImageSource:
    if description["kind"] == PARTS:
        parts = [source_from_description(part) for part in description["parts"]]
        return ChannelsSource(parts, [part.layout.channel for part in parts])
    if description["kind"] not in {*dict(FORMATS), "planes"}:
        raise ValueError("this image was in memory. Pass it again")
    path = description["path"]
    gone = not Path(path).exists() and zip_file_of(path) is None
    if gone and not is_remote(path) and not find_planes(path, description["stored_axes"]):
        raise FileNotFoundError(f"{path} is not there any more")
    return open_image(
        path,
        channel=description["channel"],
        level=description["level"],
        axes=description.get("stored_axes"),
        scene=description.get("scene"),
        spacing=description.get("spacing"),
    )
