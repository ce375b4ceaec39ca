"""Models with weights: the digest of the weights, and one linear brightness scale for a whole image."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from pydantic import model_validator

from napari_blockbuster.models.base import PixelSource, setting
from napari_blockbuster.models.spacing import SpacedModel, check_channels

from .brightness import check_range, measure_range

__all__ = ["NetworkModel", "NetworkSegmenter", "NetworkSettings", "WeightedModel"]


class NetworkSettings(Protocol):
    """What a segmenter of every `NetworkModel` reads."""

    spacing: tuple[float, ...] | None

    @property
    def ranges(self) -> list[tuple[float, float]]: ...

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
    BRIGHTNESS: ClassVar[tuple[str, ...]] = ("low", "high", "more_lows", "more_highs")
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

    more_lows: tuple[float, ...] | None = setting(
        None,
        "Several channels: gray values that become 0 in the channels after the first. Empty: measured.",
        unit="gray value",
        advanced=True,
    )
    more_highs: tuple[float, ...] | None = setting(
        None,
        "Several channels: gray values that become 1 in the channels after the first. Empty: measured.",
        unit="gray value",
        advanced=True,
    )

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        check_range(self.low, self.high)
        if self.more_lows is not None and self.more_highs is not None:
            if len(self.more_lows) != len(self.more_highs):
                raise ValueError(
                    f"more_lows is {self.more_lows} and more_highs is {self.more_highs}. Give a number each for every "
                    "channel after the first"
                )
            if any(a >= b for a, b in zip(self.more_lows, self.more_highs, strict=True)):
                raise ValueError(f"more_highs is {self.more_highs}. Each must be above its low of {self.more_lows}")
        return self

    @classmethod
    def upgrade(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Add the ranges of further channels, which earlier versions did not have."""
        return {"more_lows": None, "more_highs": None} | settings

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """Gray values that become 0 and 1 in each channel of the prepared model."""
        assert self.low is not None
        assert self.high is not None
        return [(self.low, self.high), *zip(self.more_lows or (), self.more_highs or (), strict=True)]

    def _measured(self, image: PixelSource, together: bool = False) -> dict[str, Any]:
        """Return the settings for the brightness of each channel: as the user set them, or measured.

        Parameters
        ----------
        image : PixelSource
        together : bool, default False
            Measure all channels as one, as for colors.
        """
        n, given = image.n_channels, [(self.low, self.high)]
        for name, values in (("more_lows", self.more_lows), ("more_highs", self.more_highs)):
            if values is not None and len(values) != n - 1:
                raise ValueError(f"{name} is {values}. The image has {n - 1} channels after the first")
        rest = (None,) * (n - 1)
        given += zip(self.more_lows or rest, self.more_highs or rest, strict=True)
        if all(low is not None and high is not None for low, high in given):
            blocks: list[np.ndarray] = []
        else:
            blocks = [block.reshape(-1, n) for block in image.sample_blocks()]
        parts = [blocks if together else [block[:, i] for block in blocks] for i in range(n)]
        found = [measure_range(part, self.PERCENTILES, *asked) for part, asked in zip(parts, given, strict=True)]
        update: dict[str, Any] = {"low": found[0][0], "high": found[0][1]}
        if n > 1:
            update["more_lows"], update["more_highs"] = zip(*found[1:], strict=True)
        return update

    def scaled(self, tile: np.ndarray, least: int = 1) -> np.ndarray:
        """Return a tile on a scale from 0 to 1: a new float32 array, finite, at least `least` voxels along each axis.

        Raises
        ------
        ValueError
            If the tile does not have the axes and channels of the prepared model.
        """
        ranges = self.ranges
        check_channels(tile, self.spacing, len(ranges))
        shape = tile.shape[: len(self.spacing or ())]
        pixels = np.zeros([*(max(n, least) for n in shape), *tile.shape[len(shape) :]], np.float32)
        inside: tuple[Any, ...] = tuple(map(slice, shape))
        for channel, (low, high) in enumerate(ranges):
            place = (*inside, channel) if len(ranges) > 1 else inside
            part = pixels[place]
            part[...] = tile[..., channel] if len(ranges) > 1 else tile
            if tile.dtype.kind == "f":
                np.nan_to_num(part, copy=False, nan=low, posinf=high, neginf=low)
            part -= np.float32(low)
            part /= np.float32(high - low)
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
