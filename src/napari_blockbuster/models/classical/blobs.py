"""Base class of models that find blobs of one diameter on the log scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import model_validator

from napari_blockbuster.models.base import PixelSource, Suggestion, setting
from napari_blockbuster.models.networks.brightness import check_range
from napari_blockbuster.models.spacing import SpacedModel, check_rank, per_axis

from .intensity import LogScale, measured_range

__all__ = ["BlobModel"]


class BlobModel(SpacedModel):
    """A model that finds blobs of one diameter on the log scale."""

    diameter: float = setting(
        20.0,
        "Diameter of a typical object, in voxels of the finest axis (along the longest side if objects are flat).",
        unit="px",
        ge=2,
        le=2000,
    )
    low: float | None = setting(
        None, "Darkest ordinary gray value of the image. Empty: its 0.1 percentile.", unit="gray value", advanced=True
    )
    high: float | None = setting(
        None,
        "Brightest ordinary gray value of the image. Empty: its 99.9 percentile.",
        unit="gray value",
        advanced=True,
    )

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        check_range(self.low, self.high)
        return self

    def suggest(self, image: PixelSource) -> Suggestion:
        """Return no tile, and a halo of two diameters, so that both tiles see an object on their face in full."""
        return self._halo(image, 2 * self.diameter)

    def _scaled(self, blocks: Sequence[np.ndarray], image: PixelSource) -> Self:
        """Return a copy with spacing and brightness range filled in."""
        low, high = measured_range(blocks, self.low, self.high)
        return self.model_copy(update={"spacing": self._spacing_of(image), "low": low, "high": high})

    @property
    def _scale(self) -> LogScale:
        assert self.low is not None
        assert self.high is not None
        return LogScale(self.low, self.high)

    def _lengths(self, part: float) -> tuple[float, ...]:
        """Return a part of the diameter in voxels along each axis."""
        assert self.spacing is not None
        return per_axis(part * self.diameter, self.spacing)

    def _check_tile(self, tile: np.ndarray) -> None:
        check_rank(tile, self.spacing)
