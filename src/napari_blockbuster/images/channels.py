"""Several channels of one image, side by side on a last axis, for models that look at more than one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box

from .base import ImageSource, PixelPart

__all__ = ["ChannelsSource"]


class ChannelsSource(ImageSource):
    """Channels of one image: shape, axes and scale are those of each, and pixels have one axis more, the last.

    Parameters
    ----------
    parts : sequence of ImageSource
        The same image, opened at one channel each; two or more, in the order that the model gets them.
    channels : sequence of int
        Their indices along the channel axis.
    """

    def __init__(self, parts: Sequence[ImageSource], channels: Sequence[int]) -> None:
        self._parts, self._channels = tuple(parts), list(channels)
        first = self._parts[0]
        self.layout, self.name, self.shape, self.dtype = first.layout, first.name, first.shape, first.dtype
        self.chunks, self.read_chunks = first.chunks, first.read_chunks

    @property
    def n_channels(self) -> int:
        return len(self._parts)

    @property
    def shown(self) -> ImageSource:
        return self._parts[0]

    def _read(self, box: Box) -> np.ndarray:
        return np.stack([part._read(box).reshape(box.shape) for part in self._parts], axis=-1)

    def prefetch(self, box: Box) -> _Stacked:
        return _Stacked([part.prefetch(box) for part in self._parts])

    def part(self, box: Box) -> PixelPart:
        return _Parts(tuple(part.part(box) for part in self._parts))

    def describe(self) -> dict[str, Any]:
        return self._parts[0].describe() | {"channel": self._channels}

    @property
    def shippable(self) -> bool:
        return all(part.shippable for part in self._parts)

    @property
    def local_path(self) -> Path | None:
        return self._parts[0].local_path

    def aliases(self, path: Path) -> bool:
        return self._parts[0].aliases(path)

    def _digest_boxes(self) -> list[Box]:
        return self._parts[0]._digest_boxes()


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
