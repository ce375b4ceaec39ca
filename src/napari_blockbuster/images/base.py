"""What every image offers, wherever its pixels are."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.machine.patience import SILENT_STORAGE, noticed

from .blocks import digest_of, frame_box, spread_blocks

__all__ = [
    "ChannelNotChosenError",
    "ImageReadError",
    "ImageSource",
    "Layout",
    "PixelPart",
    "Pixels",
    "StoredChunks",
]


DIGEST_VOXELS = 2**22


class ImageReadError(OSError):
    """Pixels could not be read; the message names the image and the place."""


class PixelPart(Protocol):
    """The pixels of one box, or the way to them: small and picklable."""

    def read(self) -> np.ndarray:
        """The pixels."""


class _Result(Protocol):
    def result(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Layout:
    """How the axes of stored pixels become those of an image: channel taken out, the others in order.

    Attributes
    ----------
    stored_axes : str
        Axes as stored, as ``"tczyx"``; ``s`` for color samples beside channels.
    channel : int or None
        Index along ``c`` (and ``s``, which runs faster); None where there is no such axis.
    scale, translation : tuple of float
        For each axis of the image.
    units : tuple of str or None
        For each axis of the image.
    samples : int
        Extent along ``s``.
    affine : tuple of tuple of float or None
        Matrix that moves the image after scale and translation, in their units. Only layers of a viewer have one.
    scene, spacing
        What the user asked for, see `napari_blockbuster.images.open_image`.
    """

    stored_axes: str
    channel: int | None
    scale: tuple[float, ...]
    units: tuple[str | None, ...]
    translation: tuple[float, ...] | None = None
    samples: int = 1
    scene: int | str | None = None
    spacing: float | tuple[float | None, ...] | None = None
    affine: tuple[tuple[float, ...], ...] | None = None

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes of the image: time first, then space."""
        return tuple(a for a in self.stored_axes if a not in "cs")

    def pick(self, stored: Sequence[Any]) -> tuple[Any, ...]:
        """Entries of the image's axes, from one for each stored axis."""
        return tuple(v for a, v in zip(self.stored_axes, stored, strict=True) if a not in "cs")

    def index(self, box: Box) -> tuple[slice | int, ...]:
        """A box of the image as an index into the stored array."""
        parts = iter(box.slices)
        channel, sample = divmod(self.channel or 0, self.samples)
        places = {"c": channel, "s": sample}
        return tuple(places[a] if a in places else next(parts) for a in self.stored_axes)


@dataclass(frozen=True)
class StoredChunks:
    """Which chunks of an image are stored.

    Attributes
    ----------
    sizes : numpy.ndarray
        int64, one entry per chunk: its bytes, 0 if it is not stored, -1 if it is stored with an unknown size.
    fill_value : float
        Value of the pixels of chunks that are not stored.
    """

    sizes: np.ndarray
    fill_value: float


class ImageSource(ABC):
    """A channel of an image, or some of them: time (if any) and one to three spatial axes.

    Attributes
    ----------
    layout : Layout
    name : str
        For people.
    shape : tuple of int
        Extent along each axis of `axes`, in voxels.
    dtype : numpy.dtype
        Type of the pixels, in native byte order.
    chunks, read_chunks : tuple of int
        Extent of what is stored together, and of what is decoded together (smaller where chunks are in shards).
    """

    layout: Layout
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    read_chunks: tuple[int, ...]

    # ------------------------------------------------------------ axes
    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes: ``t`` (if any), then those of space."""
        return self.layout.axes

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def separate_axes(self) -> int:
        """1 if the first axis is time, else 0."""
        return int(self.axes[0] == "t")

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape without time, in voxels."""
        return self.shape[self.separate_axes :]

    @property
    def plane_axis(self) -> int | None:
        """Spatial axis along which there is nothing: z of a stack with a single plane; None for all other images."""
        space = self.axes[self.separate_axes :]
        return space.index("z") if len(space) == 3 and self.spatial_shape[space.index("z")] == 1 else None

    @property
    def scale(self) -> tuple[float, ...]:
        """Extent of a voxel along each axis, in `units`; 1 where the image does not say."""
        return self.layout.scale

    @property
    def spacing(self) -> tuple[float, ...]:
        """Extent of a voxel along each spatial axis, for models and tiles.

        An axis with a single plane has no distance between planes: it counts like the finest of the others, whatever
        `scale` says of it.
        """
        scale = self.scale[self.separate_axes :]
        thick = [s for s, n in zip(scale, self.spatial_shape, strict=True) if n > 1]
        return tuple(s if n > 1 or not thick else min(thick) for s, n in zip(scale, self.spatial_shape, strict=True))

    @property
    def units(self) -> tuple[str | None, ...]:
        return self.layout.units

    @property
    def translation(self) -> tuple[float, ...] | None:
        return self.layout.translation

    @property
    def n_channels(self) -> int:
        """Channels that are read; if there are several, pixels have one axis more than the image, the last."""
        return 1

    @property
    def channels(self) -> list[int | None]:
        """Indices along the channel axis of the channels that are read; None for an image of its own."""
        return [self.layout.channel]

    @property
    def shown(self) -> ImageSource:
        """The one channel of it that people look at."""
        return self

    # ---------------------------------------------------------- pixels
    @property
    def decodes_chunks(self) -> bool:
        """Whether reading a box decodes all of each chunk that it touches."""
        return True

    def read(self, box: Box) -> np.ndarray:
        """Pixels of a box: its shape (and `n_channels`, if there are several), a new contiguous array of `dtype`.

        Raises
        ------
        IndexError
            If the box leaves the image.
        ImageReadError
            If a chunk cannot be read or decoded.
        """
        self._check(box)
        try:
            pixels = self._read(box)
        except Exception as error:
            raise ImageReadError(f"{self.name}: the pixels at {box} cannot be read ({_first_line(error)})") from error
        channels = (self.n_channels,) if self.n_channels > 1 else ()
        return np.ascontiguousarray(pixels, self.dtype).reshape(box.shape + channels)

    def prefetch(self, box: Box) -> _Result:
        """Start reading a box; ``result()`` gives what `read` gives."""
        self._check(box)
        return _Later(self, box)

    @abstractmethod
    def _read(self, box: Box) -> np.ndarray: ...

    def _check(self, box: Box) -> None:
        if not Box((0,) * self.ndim, self.shape).contains(box):
            raise IndexError(f"{self.name}: the box {box} leaves the image of shape {self.shape}")

    def sample_blocks(self, max_voxels: int = 2**24) -> list[np.ndarray]:
        """Blocks of voxels, spread evenly over the image; everything if it is small enough.

        Parameters
        ----------
        max_voxels : int
            About how many voxels to read at most.

        Returns
        -------
        list of numpy.ndarray
            Over the spatial axes (and channels, if there are several); the same blocks at every call.
        """
        if math.prod(self.shape) <= max_voxels:
            boxes = [Box((0,) * self.ndim, self.shape)]
            if self.separate_axes:
                boxes = [frame_box(self.shape, t) for t in range(self.shape[0])]
        else:
            boxes = spread_blocks(self.shape, self._sample_chunk(max_voxels), max_voxels)
        blocks = (self.read(box) for box in boxes)
        return [block.reshape(block.shape[self.separate_axes :]) for block in blocks]

    def _sample_chunk(self, max_voxels: int) -> tuple[int, ...]:
        # At least 16 blocks: one corner of an image does not speak for it. At least 64 voxels a side: objects must fit.
        limit = max(max_voxels // 16, 1)
        side = max(round(limit ** (1 / len(self.spatial_shape))), 1)
        spatial = [
            min(n, max(min(c, side), min(64, side)))
            for n, c in zip(self.spatial_shape, self.read_chunks[self.separate_axes :], strict=True)
        ]
        return (1,) * self.separate_axes + tuple(spatial)

    def stored_chunks(self) -> StoredChunks | None:
        """Return which chunks are stored, and how large they are; None if the store does not say."""
        return None

    # ---------------------------------------------------------- identity
    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """How to open the image again: JSON-ready, see `source_from_description`."""

    def identity(self) -> dict[str, Any]:
        """Return what identifies this image: JSON-ready, the same in every process and wherever the image is moved to.

        Its digest covers all pixels of a small image; of a larger one, blocks of about four million voxels in all,
        spread evenly. A change between those blocks goes unnoticed.
        """
        # Sizes that the user gave decide what the model sees, as pixels do.
        given = {} if self.layout.spacing is None else {"spacing": _plain(self.layout.spacing)}
        with noticed(f"pixels to recognize the image by ({SILENT_STORAGE})"):
            content = digest_of(*(self.read(box) for box in self._digest_boxes()))
        return given | {
            "shape": list(self.shape),
            "axes": "".join(self.axes),
            "dtype": str(self.dtype),
            "content": content,
        }

    def _digest_boxes(self) -> list[Box]:
        if math.prod(self.shape) <= DIGEST_VOXELS:
            return [Box((0,) * self.ndim, self.shape)]
        # At least 16 places, whatever the size of a chunk.
        side = max(1, int((DIGEST_VOXELS / 16) ** (1 / self.ndim)))
        block = tuple(min(n, c, side) for n, c in zip(self.shape, self.read_chunks, strict=True))
        return spread_blocks(self.shape, block, min(DIGEST_VOXELS, 64 * math.prod(block)))

    def _description(self, kind: str, **more: Any) -> dict[str, Any]:
        return {
            "kind": kind,
            **more,
            "axes": list(self.axes),
            "stored_axes": self.layout.stored_axes,
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "scale": list(self.scale),
            "units": list(self.units),
            "translation": list(self.translation) if self.translation else None,
            **({"affine": [list(row) for row in self.layout.affine]} if self.layout.affine else {}),
            "channel": self.layout.channel,
            "scene": self.layout.scene,
            "spacing": _plain(self.layout.spacing),
        }

    # ---------------------------------------------------------- places
    @property
    def shippable(self) -> bool:
        """Whether workers can read the pixels themselves from this (small, picklable) object."""
        return False

    def part(self, box: Box) -> PixelPart:
        """The pixels of a box, or the way to them, to be sent to a worker."""
        return Pixels(self.read(box))

    @property
    def local_path(self) -> Path | None:
        """File or folder of the image on this machine, if it has one."""
        return None

    def aliases(self, path: Path) -> bool:
        """Whether writing to `path` would hit the pixels of this image."""
        return False


def _plain(spacing: float | tuple[float | None, ...] | None) -> float | list[float | None] | None:
    return list(spacing) if isinstance(spacing, tuple) else spacing


class _Later:
    def __init__(self, source: ImageSource, box: Box) -> None:
        self._source, self._box = source, box

    def result(self) -> np.ndarray:
        return self._source.read(self._box)


@dataclass(frozen=True)
class Pixels:
    """The pixels of a box themselves."""

    pixels: np.ndarray

    def read(self) -> np.ndarray:
        return self.pixels


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


class ChannelNotChosenError(ValueError):
    """An image has several channels, and none was chosen.

    Attributes
    ----------
    channels : list of str
        The first channels by number, with their names if the image has some: ``["0 (DAPI)", "1"]``.
    names : list of str
        Names of all channels, "" for one without.
    """

    def __init__(self, message: str, channels: Sequence[str], names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.channels = list(channels)
        self.names = list(names)

    @property
    def n_channels(self) -> int:
        """Number of channels of the image."""
        return len(self.names)
