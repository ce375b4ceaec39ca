"""Distance-transform watershed: touching round objects told apart by shape alone."""

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
    """A thresholded image, cut at the necks of its outline.

    Each voxel of the foreground gets its distance to the background (exact, with anisotropy: Maurer et al. 2003,
    IEEE PAMI 25:265); maxima of the slightly smoothed distance are the seeds of a watershed (Vincent & Soille 1991,
    IEEE PAMI 13:583). It needs no texture inside the objects, so it suits masks, saturated images and phase objects.
    """

    family: ClassVar[str] = "distance-watershed"
    summary: ClassVar[str] = "Threshold, then touching round objects are cut at their necks"

    diameter: float = setting(
        20.0, "Diameter of a typical object, in voxels of the finest axis.", unit="px", ge=2, le=2000
    )

    def suggest(self, image: PixelSource) -> Suggestion:
        """No wish for a tile; a halo of two diameters."""
        return self._halo(image, 2 * self.diameter)

    def load(self) -> Segmenter:
        """The segmenter: array of any real type -> int32 labels of its shape.

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
