"""Base class of models: frozen settings that travel as JSON, and a segmenter that workers build from them.

A model holds no weights, arrays or open files. It goes through three states::

    settings ──prepare(image)──► settings with what all tiles share ──load()──► segmenter(tile) -> labels
    (the user's)                 (still JSON: kept in the job folder)           (once per worker process)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Model", "PixelSource", "Segmenter", "Suggestion", "TwoPartSegmenter", "begin", "setting"]

Segmenter = Callable[[np.ndarray], np.ndarray]


@runtime_checkable
class TwoPartSegmenter(Protocol):
    """A segmenter that needs its device for the first part of its work only.

    The second part of a tile may run in another thread while the first part of the next tile runs.
    """

    def __call__(self, tile: np.ndarray) -> np.ndarray:
        """Return the labels of a tile: both parts."""

    def begin(self, tile: np.ndarray) -> Callable[[], np.ndarray]:
        """Do the first part. The returned callable does the second part and returns the labels."""


def begin(segmenter: Segmenter, tile: np.ndarray) -> Callable[[], np.ndarray]:
    """Do the part of a segmenter's work that needs its device: all of it, unless the segmenter has two parts.

    Returns
    -------
    callable
        Does the rest, and returns the labels.
    """
    if isinstance(segmenter, TwoPartSegmenter):
        return segmenter.begin(tile)
    labels = segmenter(tile)
    return lambda: labels


def setting(
    default: Any, description: str, *, unit: str = "", advanced: bool = False, derived: bool = False, **limits: Any
) -> Any:
    """Return a pydantic field with the help and unit that forms and the command line show (see `Model`)."""
    extra: dict[str, Any] = {"advanced": advanced, "derived": derived}
    if unit:
        extra["unit"] = unit
    return Field(default, description=description, json_schema_extra=extra, **limits)


class PixelSource(Protocol):
    """The part of an image that a model may read before the run (see `napari_blockbuster.images.ImageSource`)."""

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
        """Number of channels of a tile. Several channels are the last axis of tiles and sample blocks."""

    def sample_blocks(self, max_voxels: int = 2**24) -> list[np.ndarray]:
        """Return full-resolution blocks spread evenly over the image, or the whole image if it is small."""


class Suggestion(NamedTuple):
    """Tile and halo that suit a model, in voxels along each spatial axis. The tile is None if any will do."""

    tile_shape: tuple[int, ...] | None
    halo: tuple[int, ...]


class Model(BaseModel):
    """Settings of a segmentation model.

    Subclass it with pydantic fields. A field's ``description`` is its help; ``json_schema_extra`` may hold ``unit``,
    ``advanced`` and ``derived`` (computed from the other settings and not shown in forms). ``ge`` and ``le`` set its range.
    Forms, the command line and the job folder use these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    family: ClassVar[str]
    """Name in the registry."""
    summary: ClassVar[str]
    """One sentence for lists and menus."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions that the labels depend on, in addition to numpy. A job resumes only with the same versions of them, and
    workers must have the same versions as the process that starts the run."""
    without_effect: ClassVar[tuple[str, ...]] = ()
    """Settings that the labels do not depend on. A job resumes with other values of them."""
    most_channels: ClassVar[int] = 1
    """Largest number of channels of a tile (see `PixelSource.n_channels` and `channel_range`)."""

    @property
    def functions(self) -> list[Callable[..., Any]]:
        """Functions of the user's that must travel to the workers with this model. Default: none."""
        return []

    @property
    def display_name(self) -> str:
        """Name of the model in error messages. Default: its family."""
        return f"model {self.family!r}"

    def channel_range(self) -> tuple[int, int]:
        """Return the least and the largest number of channels that the model takes with these settings.

        Default: 1 to `most_channels`. Weights that are not on this machine may not say; `prepare` then checks the number.
        """
        return 1, self.most_channels

    def depends_on(self) -> tuple[str, ...]:
        """Return the distributions that the labels depend on with these settings. Default: `packages`."""
        return self.packages

    def prepare(self, image: PixelSource) -> Self:
        """Measure once, on the whole image, the values that all tiles share: percentiles, thresholds, anisotropy.

        Returns a copy with these settings filled in. Settings that the user set are not changed.
        """
        return self

    def suggest(self, image: PixelSource) -> Suggestion:
        """Return the tile and halo that suit the model on this image."""
        return Suggestion(None, (0,) * len(image.spatial_shape))

    def load(self) -> Segmenter:
        """Build the segmenter. Called once per worker process. It may be slow and keep memory.

        Returns
        -------
        callable
            ``segmenter(tile) -> labels``: an array of the tile's spatial shape with integers >= 0. It does not change
            the tile.
        """
        raise NotImplementedError(f"{type(self).__name__} has no load()")

    def settings(self) -> dict[str, Any]:
        """Return the model as JSON-ready data: ``{"model": name, **settings}``."""
        return {"model": self.family, **self.model_dump(mode="json")}

    @classmethod
    def upgrade(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Add the settings that an earlier version of the model did not have, with values that keep its labels.

        Jobs made by the earlier version then resume with the same labels. Default: nothing was added.
        """
        return settings

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Self:
        """Build the model from `settings` (without the entry ``"model"``).

        `napari_blockbuster.models.model_from_settings` calls it to open job folders, so it must not run code of the
        user's. Override it to refuse settings that cannot be used.
        """
        return cls(**cls.upgrade(settings))
