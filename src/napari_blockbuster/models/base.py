"""What a model is: frozen settings that travel as JSON, and a segmenter built from them in a worker.

A model never carries weights, arrays or open files. It goes through three states::

    settings ──prepare(image)──► settings with what all tiles share ──load()──► segmenter(tile) -> labels
    (the user's)                 (still JSON: kept in the job folder)           (once per worker process)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Model", "PixelSource", "Segmenter", "Suggestion", "setting"]

Segmenter = Callable[[np.ndarray], np.ndarray]


def setting(
    default: Any, description: str, *, unit: str = "", advanced: bool = False, derived: bool = False, **limits: Any
) -> Any:
    """A pydantic field with what forms and the command line show beside its name and range (see `Model`)."""
    extra: dict[str, Any] = {"advanced": advanced, "derived": derived}
    if unit:
        extra["unit"] = unit
    return Field(default, description=description, json_schema_extra=extra, **limits)


class PixelSource(Protocol):
    """What a model may ask of an image before the run (see `napari_blockbuster.images.ImageSource`)."""

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape without time and channel, in voxels."""

    @property
    def spacing(self) -> tuple[float, ...]:
        """Extent of a voxel along each spatial axis, in the image's unit (1 where it has none)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""

    @property
    def n_channels(self) -> int:
        """Channels of a tile; if there are several, they are the last axis of tiles and sample blocks."""

    def sample_blocks(self, max_voxels: int = 2**24) -> list[np.ndarray]:
        """Full-resolution blocks spread evenly over the image; the whole image where it is small enough."""


class Suggestion(NamedTuple):
    """Tile and halo that a model asks for, in voxels along each spatial axis; None where it has no wish."""

    tile_shape: tuple[int, ...] | None
    halo: tuple[int, ...]


class Model(BaseModel):
    """Settings of a segmentation model.

    Subclass it with pydantic fields. A field's ``description`` is its help; ``json_schema_extra`` may hold ``unit``,
    ``advanced`` and ``derived`` (found out from the other settings: no form asks for it); ``ge``/``le`` give its range.
    Forms, the command line and the job folder are made from these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    family: ClassVar[str]
    """Name in the registry."""
    summary: ClassVar[str]
    """One sentence for lists and menus."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions, in addition to numpy, that the labels depend on. A job is not resumed with other versions of them, and
    workers must have the versions of the process that starts the run."""
    most_channels: ClassVar[int] = 1
    """Channels that a tile may have (see `PixelSource.n_channels`)."""

    @property
    def functions(self) -> list[Callable[..., Any]]:
        """Functions of the user's that must travel to the workers with this model. Default: none."""
        return []

    @property
    def display_name(self) -> str:
        """Name of the model in error messages. Default: its family."""
        return f"model {self.family!r}"

    def depends_on(self) -> tuple[str, ...]:
        """Return the distributions that the labels depend on with these settings. Default: `packages`."""
        return self.packages

    def prepare(self, image: PixelSource) -> Self:
        """Fix what all tiles must share (percentiles, thresholds, anisotropy), measured once on the whole image.

        Returns a copy with those settings filled in; a setting that the user gave is never changed.
        """
        return self

    def suggest(self, image: PixelSource) -> Suggestion:
        """Tile and halo that suit the model on this image."""
        return Suggestion(None, (0,) * len(image.spatial_shape))

    def load(self) -> Segmenter:
        """Build the segmenter. Called once per worker process; it may be slow and hold memory.

        Returns
        -------
        callable
            ``segmenter(tile) -> labels``: an array of the tile's spatial shape with integers >= 0; the tile is left
            untouched.
        """
        raise NotImplementedError(f"{type(self).__name__} has no load()")

    def settings(self) -> dict[str, Any]:
        """The model as JSON-ready data: ``{"model": name, **settings}``."""
        return {"model": self.family, **self.model_dump(mode="json")}

    @classmethod
    def upgrade(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Add the settings that an earlier version of the model did not have, with values that keep its labels.

        Jobs made by the earlier version then resume with the same labels. Default: nothing was added.
        """
        return settings

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Self:
        """The model of `settings` (without the entry ``"model"``).

        `napari_blockbuster.models.model_from_settings` calls it. It must run nothing of the user's: job folders are
        opened with it. Override it to refuse settings that cannot be used.
        """
        return cls(**cls.upgrade(settings))
