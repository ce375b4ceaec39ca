"""Several channels of one image, side by side on a last axis, for models that look at more than one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box

from .base import ImageSource, PixelPart, StoredChunks

__all__ = ["PARTS", "ChannelsSource"]

PARTS = "channels"
"""Kind of the description of channels that are images of their own."""


class ChannelsSource(ImageSource):
    """Channels of one image: shape, axes and scale are those of each, and pixels have one axis more, the last.

    Parameters
    ----------
    parts : sequence of ImageSource
        The same image, opened at one channel each, or images of the same shape; two or more, in the order that the model
        gets them.
    channels : sequence of int or None
        Their indices along the channel axis. None for an image of its own.

    Attributes
    ----------
    parts : tuple of ImageSource
    """

    def __init__(self, parts: Sequence[ImageSource], channels: Sequence[int | None]) -> None:
        self.parts, self._channels = tuple(parts), list(channels)
        first = self.parts[0]
        self.layout, self.name, self.shape = first.layout, first.name, first.shape
        self.dtype = np.result_type(*(part.dtype for part in self.parts))
        self.chunks, self.read_chunks = first.chunks, first.read_chunks

    def with_parts(self, parts: Sequence[ImageSource]) -> ChannelsSource:
        """The same channels, read from other sources."""
        made = copy.copy(self)
        made.parts = tuple(parts)
        return made

    @property
    def n_channels(self) -> int:
        return len(self.parts)

    @property
    def channels(self) -> list[int | None]:
        return list(self._channels)

    @property
    def shown(self) -> ImageSource:
        return self.parts[0]

    def _read(self, box: Box) -> np.ndarray:
        return np.stack([part._read(box).reshape(box.shape) for part in self.parts], axis=-1)

    def prefetch(self, box: Box) -> _Stacked:
        return _Stacked([part.prefetch(box) for part in self.parts])

    def stored_chunks(self) -> StoredChunks | None:
        found = [part.stored_chunks() for part in self.parts]
        known = [each for each in found if each is not None]
        if len(known) < len(found) or len({(each.fill_value, each.sizes.shape) for each in known}) > 1:
            return None
        sizes = np.stack([each.sizes for each in known])
        return StoredChunks(np.where((sizes < 0).any(axis=0), -1, sizes.sum(axis=0)), known[0].fill_value)

    def part(self, box: Box) -> PixelPart:
        return _Parts(tuple(part.part(box) for part in self.parts))

    def describe(self) -> dict[str, Any]:
        described = [part.describe() for part in self.parts]
        first = described[0]
        own = {name: first[name] for name in ("axes", "stored_axes", "shape")} | {"dtype": str(self.dtype)}
        own |= self._place()
        own_files = [{k: v for k, v in each.items() if k not in ("channel", *own)} for each in described]
        if all(each == own_files[0] for each in own_files) and None not in self._channels:
            return first | own | {"channel": self._channels}
        return {"kind": PARTS, "parts": described, "channel": None, "scene": None, **own}

    def _place(self) -> dict[str, Any]:
        """What `ImageSource.describe` says of the layout of all channels."""
        described = self._description("")
        names = ("scale", "units", "translation", "affine", "spacing")
        return {name: described[name] for name in names if name in described}

    @property
    def shippable(self) -> bool:
        return all(part.shippable for part in self.parts)

    @property
    def local_path(self) -> Path | None:
        return self.parts[0].local_path

    def aliases(self, path: Path) -> bool:
        return any(part.aliases(path) for part in self.parts)

    def _digest_boxes(self) -> list[Box]:
        return self.parts[0]._digest_boxes()


@dataclass(frozen=True)
class _Stacked:
    readings: list[Any]

    def result(self) -> np.ndarray:
        return np.stack([reading.result() for reading in self.readings], axis=-1)


@dataclass(frozen=True)
class _Parts:
    parts: tuple[PixelPart, ...]

    def read(self) -> np.ndarray:
        return np.stack([part.read() for part in self.parts], axis=-1)
