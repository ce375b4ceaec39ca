"""Settings that all models with a voxel size share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from .base import Model, PixelSource, Suggestion, relative_spacing

__all__ = ["SpacedModel", "check_rank", "per_axis", "setting"]


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


def check_rank(tile: np.ndarray, spacing: tuple[float, ...] | None) -> None:
    """Refuse a tile whose rank is not that of the prepared image."""
    if spacing is None or tile.ndim != len(spacing):
        raise ValueError(f"the model is prepared for {len(spacing or ())} axes but the tile has shape {tile.shape}")
