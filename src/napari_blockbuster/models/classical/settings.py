"""What the models without weights share: one length, one brightness scale, the image's anisotropy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from napari_blockbuster.models.base import Model, PixelSource, Suggestion, relative_spacing

from .intensity import LogScale, measure_range

__all__ = ["BlobModel", "SpacedModel", "per_axis", "setting"]


def setting(
    default: Any, description: str, *, unit: str = "", advanced: bool = False, derived: bool = False, **limits: Any
) -> Any:
    """A pydantic field with what forms and the command line show beside its name and range (see `Model`)."""
    extra: dict[str, Any] = {"advanced": advanced, "derived": derived}
    if unit:
        extra["unit"] = unit
    return Field(default, description=description, json_schema_extra=extra, **limits)


def per_axis(length: float, spacing: Sequence[float]) -> tuple[float, ...]:
    """A length in voxels of the finest axis as voxels along each axis."""
    return tuple(length / s for s in spacing)


class SpacedModel(Model):
    """A model that knows how far apart the voxels are along each axis."""

    packages: ClassVar[tuple[str, ...]] = ("scipy", "scikit-image")

    spacing: tuple[float, ...] | None = setting(
        None,
        "Distance between voxels along each axis, in units of the finest axis. Empty: from the image.",
        advanced=True,
        min_length=1,
        max_length=3,
    )

    @model_validator(mode="after")
    def _check_spacing(self) -> Self:
        if self.spacing is not None and min(self.spacing) <= 0:
            raise ValueError(f"spacing is {self.spacing}; each of its numbers must be above 0")
        return self

    def _spacing_of(self, image: PixelSource) -> tuple[float, ...]:
        ndim = len(image.spatial_shape)
        if self.spacing is None:
            return relative_spacing(image.spacing)
        if len(self.spacing) != ndim:
            raise ValueError(f"spacing has {len(self.spacing)} numbers {self.spacing}, but the image has {ndim} axes")
        return self.spacing

    def _halo(self, image: PixelSource, length: float) -> Suggestion:
        return Suggestion(None, tuple(math.ceil(n) for n in per_axis(length, self._spacing_of(image))))

    def _require(self, *names: str) -> None:
        """Refuse to segment with settings that only the whole image can give."""
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise RuntimeError(
                f"model {self.family!r} is not prepared: {', '.join(missing)} must be the same for all tiles; "
                "use the model that model.prepare(image) returns, or give all of them"
            )


class BlobModel(SpacedModel):
    """A model that looks for blobs of one diameter on the log scale."""

    diameter: float = setting(
        20.0,
        "Diameter of a typical object, in voxels of the finest axis (along the longest side where objects are flat).",
        unit="px",
        ge=2,
        le=2000,
    )
    low: float | None = setting(
        None, "Darkest ordinary grey value of the image. Empty: its 0.1 percentile.", unit="grey value", advanced=True
    )
    high: float | None = setting(
        None,
        "Brightest ordinary grey value of the image. Empty: its 99.9 percentile.",
        unit="grey value",
        advanced=True,
    )

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"high is {self.high}; it must be above low, which is {self.low}")
        return self

    def suggest(self, image: PixelSource) -> Suggestion:
        """No wish for a tile; a halo of two diameters, so that an object on a face is whole in both of its tiles."""
        return self._halo(image, 2 * self.diameter)

    def _scaled(self, blocks: Sequence[np.ndarray], image: PixelSource) -> Self:
        """A copy with spacing and brightness range filled in."""
        low, high = self.low, self.high
        if low is None or high is None:
            measured = measure_range(blocks)
            low = measured[0] if low is None else low
            high = measured[1] if high is None else high
            if low >= high:
                # One of them is the user's, and the image lies on the other side of it.
                low, high = (low, low + 1) if self.low is not None else (high - 1, high)
        return self.model_copy(update={"spacing": self._spacing_of(image), "low": low, "high": high})

    @property
    def _scale(self) -> LogScale:
        assert self.low is not None
        assert self.high is not None
        return LogScale(self.low, self.high)

    def _lengths(self, part: float) -> tuple[float, ...]:
        """A part of the diameter as voxels along each axis."""
        assert self.spacing is not None
        return per_axis(part * self.diameter, self.spacing)

    def _check_tile(self, tile: np.ndarray) -> None:
        check_rank(tile, self.spacing)


def check_rank(tile: np.ndarray, spacing: tuple[float, ...] | None) -> None:
    """Refuse a tile whose rank is not that of the prepared image."""
    if spacing is None or tile.ndim != len(spacing):
        raise ValueError(f"the model is prepared for {len(spacing or ())} axes but the tile has shape {tile.shape}")
