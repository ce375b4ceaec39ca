"""Distance-transform watershed: separates touching round objects by shape alone."""

from __future__ import annotations

import functools
from typing import ClassVar

import numpy as np

from napari_blockbuster.models.base import PixelSource, Segmenter, Suggestion, setting
from napari_blockbuster.models.spacing import per_axis

from .filters import flood, peaks, smooth
from .threshold import ThresholdedModel

__all__ = ["DistanceWatershed"]

SMOOTHING = 0.05
SEED_RADIUS = 0.25
"""Smoothing of the distances, and half the window in which a seed is highest, in diameters."""


class DistanceWatershed(ThresholdedModel):
    """Threshold an image, and cut the foreground at its necks.

    The distance of each foreground voxel to the background is exact and includes anisotropy (Maurer et al. 2003,
    IEEE PAMI 25:265). Maxima of the slightly smoothed distance are the seeds of a watershed (Vincent & Soille 1991,
    IEEE PAMI 13:583). The model does not need texture inside objects, so it suits masks, saturated images and phase
    objects.
    """

    family: ClassVar[str] = "distance-watershed"
    summary: ClassVar[str] = "Threshold, then cut touching round objects at their necks"

    diameter: float = setting(
        20.0, "Diameter of a typical object, in voxels of the finest axis.", unit="px", ge=2, le=2000
    )

    def suggest(self, image: PixelSource) -> Suggestion:
        """Return no tile, and a halo of two diameters."""
        return self._halo(image, 2 * self.diameter)

    def load(self) -> Segmenter:
        """Return the segmenter, which turns arrays of any real type into int32 labels.

        Raises
        ------
        RuntimeError
            If the model is not prepared.
        """
        self._require("spacing", "threshold")
        return functools.partial(_segment, self)


def _segment(model: DistanceWatershed, tile: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    assert model.spacing is not None
    foreground = model._foreground(tile)
    if not foreground.any():
        return np.zeros(tile.shape, np.int32)
    distance = ndimage.distance_transform_edt(foreground, sampling=model.spacing)
    distance = smooth(distance, per_axis(SMOOTHING * model.diameter, model.spacing))
    seeds = peaks(distance, foreground, per_axis(SEED_RADIUS * model.diameter, model.spacing))
    return flood(distance, seeds, foreground)
