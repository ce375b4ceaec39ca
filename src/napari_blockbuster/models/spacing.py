"""Voxel size: spacing along each axis, and lengths in voxels that follow from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from pydantic import model_validator

from .base import Model, PixelSource, Suggestion, setting

__all__ = ["SpacedModel", "check_channels", "check_rank", "per_axis", "relative_spacing", "round_up"]


def relative_spacing(spacing: Sequence[float]) -> tuple[float, ...]:
    """Return a spacing in units of the finest axis: (2.0, 1.0, 1.0) where z steps are twice as long as y and x."""
    finest = min(spacing)
    return tuple(s / finest for s in spacing)


def per_axis(length: float, spacing: Sequence[float]) -> tuple[float, ...]:
    """Return a length in voxels of the finest axis as voxels along each axis."""
    return tuple(length / s for s in spacing)


def round_up(length: float, step: int) -> int:
    """Return the first multiple of `step` that is not below `length`."""
    return -int(-length // step) * step


class SpacedModel(Model):
    """A model with a voxel size: lengths are given in voxels of the finest axis."""

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
            raise ValueError(f"spacing is {self.spacing}. Each of its numbers must be above 0")
        return self

    def _spacing_of(self, image: PixelSource) -> tuple[float, ...]:
        ndim = len(image.spatial_shape)
        if self.spacing is None:
            return relative_spacing(image.spacing)
        left_out = getattr(image, "left_out", None)
        if left_out is not None and len(self.spacing) == ndim + 1:
            return self.spacing[:left_out] + self.spacing[left_out + 1 :]
        if len(self.spacing) != ndim:
            raise ValueError(f"spacing has {len(self.spacing)} numbers {self.spacing}, but the image has {ndim} axes")
        return self.spacing

    def _halo(self, image: PixelSource, length: float) -> Suggestion:
        return Suggestion(None, tuple(math.ceil(n) for n in per_axis(length, self._spacing_of(image))))

    def _require(self, *names: str) -> None:
        """Refuse to segment before the settings that depend on the whole image are measured."""
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise RuntimeError(
                f"model {self.family!r} is not prepared: {', '.join(missing)} must be the same for all tiles. "
                "Use the model that model.prepare(image) returns, or set all of them"
            )


def check_channels(tile: np.ndarray, spacing: tuple[float, ...] | None, n_channels: int) -> None:
    """Refuse a tile whose axes or channels (the last axis, if there are several) are not those of the prepared image."""
    if n_channels > 1 and (tile.ndim == 0 or tile.shape[-1] != n_channels):
        raise ValueError(f"the model is prepared for {n_channels} channels but the tile has shape {tile.shape}")
    check_rank(tile[..., 0] if n_channels > 1 else tile, spacing)


def check_rank(tile: np.ndarray, spacing: tuple[float, ...] | None) -> None:
    """Refuse a tile whose rank is not that of the prepared image."""
    if spacing is None or tile.ndim != len(spacing):
        raise ValueError(f"the model is prepared for {len(spacing or ())} axes but the tile has shape {tile.shape}")
