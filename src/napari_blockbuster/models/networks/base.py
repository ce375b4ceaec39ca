"""Models with weights: the digest of the weights, and one linear brightness scale for a whole image."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from pydantic import model_validator

from napari_blockbuster.models.base import PixelSource, setting
from napari_blockbuster.models.spacing import SpacedModel

from .brightness import check_range, measure_range

__all__ = ["NetworkModel", "NetworkSegmenter", "NetworkSettings", "WeightedModel"]


class NetworkSettings(Protocol):
    """What a segmenter of every `NetworkModel` reads."""

    spacing: tuple[float, ...] | None

    def scaled(self, tile: np.ndarray, least: int = 1) -> np.ndarray: ...


class WeightedModel(SpacedModel):
    """A model whose labels depend on a file of weights."""

    sha256: str | None = setting(
        None,
        "Digest of the weights. A run continues with these only. Empty: of the files as they are now.",
        advanced=True,
    )


class NetworkModel(WeightedModel):
    """A network that sees brightness on a scale from 0 to 1, set by two percentiles of the whole image."""

    PERCENTILES: ClassVar[tuple[float, float]]
    """What the network's own code maps to 0 and 1."""
    BRIGHTNESS: ClassVar[tuple[str, ...]] = ("low", "high")
    """Settings that differ from image to image and do not touch the network."""

    low: float | None = setting(
        None,
        "Gray value that becomes 0. Empty: a low percentile of the image, the same as in the network's own code.",
        unit="gray value",
        advanced=True,
    )
    high: float | None = setting(
        None,
        "Gray value that becomes 1. Empty: a high percentile of the image, the same as in the network's own code.",
        unit="gray value",
        advanced=True,
    )

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        check_range(self.low, self.high)
        return self

    def _range(self, image: PixelSource) -> tuple[float, float]:
        if self.low is not None and self.high is not None:
            return self.low, self.high
        return measure_range(image.sample_blocks(), self.PERCENTILES, self.low, self.high)

    def scaled(self, tile: np.ndarray, least: int = 1) -> np.ndarray:
        """Return a tile on a scale from 0 to 1: a new float32 array, finite, at least `least` voxels along each axis."""
        assert self.low is not None
        assert self.high is not None
        pixels = np.zeros([max(n, least) for n in tile.shape], np.float32)
        part = pixels[tuple(map(slice, tile.shape))]
        part[...] = tile
        if tile.dtype.kind == "f":
            np.nan_to_num(part, copy=False, nan=self.low, posinf=self.high, neginf=self.low)
        part -= np.float32(self.low)
        part /= np.float32(self.high - self.low)
        return pixels

    def same_network(self, other: object) -> bool:
        """Whether both models differ only in the brightness of their images, so that one loaded network serves both."""
        return type(self) is type(other) and self._without_brightness() == other._without_brightness()

    def _without_brightness(self) -> dict[str, Any]:
        settings = self.settings()
        return settings | {name: len(v) if isinstance(v := settings[name], list) else 0 for name in self.BRIGHTNESS}


class NetworkSegmenter:
    """A loaded network with the settings of one image, ``_settings``."""

    def with_settings(self, settings: Any) -> Self:
        """Return a segmenter for another image that shares this one's network; see `NetworkModel.same_network`."""
        other = copy.copy(self)
        vars(other)["_settings"] = settings
        return other
