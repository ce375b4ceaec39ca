"""Voronoi-Otsu labeling: the default model. One diameter, no weights, 1D to 3D."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Self

import numpy as np

from napari_blockbuster.models.base import PixelSource, Segmenter, setting

from .blobs import BlobModel
from .filters import difference_of_gaussians, flood, keep_seeded, peaks, smooth, smooth_at
from .intensity import split

__all__ = ["VoronoiOtsu"]

OUTLINE_SIGMA = 0.05
SEED_SIGMA = 0.25
SEED_RADIUS = 0.12
"""Smoothing for the outline, scale of the seeds, and half the window in which a seed is highest, in diameters."""


class VoronoiOtsu(BlobModel):
    """Nuclei and other blobs, brighter than their surroundings.

    1. Convert brightness to a log scale for the whole image, on which dim and bright objects have equal weight.
    2. Foreground: voxels above the threshold (Otsu 1979) after light smoothing.
    3. Seeds: maxima in the foreground of a difference of Gaussians as wide as an object. This separates touching objects
       that smoothing alone would fuse (Lindeberg 1998, IJCV 30:79).
    4. A watershed divides the foreground among the seeds (Meyer 1994, Signal Processing 38:113).
    5. Cut each object where its brightness falls to `outline` of its height above the background (the half-maximum
       rule). This removes the glow of bright objects. The height is measured at `height_scale`, so that a bright spot
       in an object has little effect.

    The name and the idea of one-parameter labeling come from Voronoi-Otsu labeling (Haase et al., clEsperanto).
    """

    family: ClassVar[str] = "voronoi-otsu"
    summary: ClassVar[str] = "Bright nuclei and blobs from one diameter; no download (default)"

    threshold: float | None = setting(
        None, "Gray value above which objects begin. Empty: Otsu's threshold of the whole image.", unit="gray value"
    )
    outline: float = setting(
        0.4,
        "Brightness at which an object ends, as a part of its height above the background. 0: use the threshold alone.",
        ge=0,
        le=0.9,
        advanced=True,
    )
    height_scale: float = setting(
        0.1,
        "Scale at which the height of an object is measured, in diameters. Higher values ignore bright spots in objects. "
        "0.05 gives the tighter outlines of jobs made before this setting existed.",
        ge=OUTLINE_SIGMA,
        le=0.25,
        advanced=True,
    )
    background: float | None = setting(
        None,
        "Gray value between objects. Empty: the mean below the threshold over the whole image.",
        unit="gray value",
        advanced=True,
    )

    @classmethod
    def upgrade(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Give complete settings without `height_scale` the rule that they were stored with.

        Incomplete settings were written by hand, and take the default.
        """
        absent = cls.model_fields.keys() - settings.keys()
        return {**settings, "height_scale": OUTLINE_SIGMA} if absent == {"height_scale"} else settings

    def prepare(self, image: PixelSource) -> Self:
        """Fill in anisotropy, brightness range, threshold and background, measured on blocks of the whole image."""
        blocks = image.sample_blocks()
        scaled = self._scaled(blocks, image)
        measured = split(blocks, scaled._scale, lambda block: scaled._smoothed(scaled._scale(block)), self.threshold)
        return scaled.model_copy(
            update={
                "threshold": measured.threshold,
                "background": measured.background if self.background is None else self.background,
            }
        )

    def load(self) -> Segmenter:
        """Return the segmenter, which turns arrays of any real type into int32 labels.

        Raises
        ------
        RuntimeError
            If the model is not prepared.
        """
        self._require("spacing", "low", "high", "threshold", "background")
        return functools.partial(_segment, self)

    def _smoothed(self, values: np.ndarray) -> np.ndarray:
        return smooth(values, self._lengths(OUTLINE_SIGMA))

    def _levels(self, heights: np.ndarray) -> np.ndarray:
        """Return the level at which each object ends from its height, both on the log scale."""
        assert self.background is not None
        gray = self._scale.inverse(heights)
        return np.asarray(self._scale.of_many(self.background + self.outline * (gray - self.background)))


def _segment(model: VoronoiOtsu, tile: np.ndarray) -> np.ndarray:
    assert model.threshold is not None
    model._check_tile(tile)
    values = model._scale(tile)
    smoothed = model._smoothed(values)
    foreground = smoothed > model._scale.of(model.threshold)
    if not foreground.any():
        return np.zeros(tile.shape, np.int32)
    blobs = difference_of_gaussians(values, model._lengths(SEED_SIGMA))
    seeds = peaks(blobs, foreground, model._lengths(SEED_RADIUS))
    labels = flood(blobs, seeds, foreground)
    if model.outline == 0:
        return labels
    at = np.nonzero(seeds)
    peaks_of = _highest(seeds[at], smoothed[at])
    heights = peaks_of
    if model.height_scale > OUTLINE_SIGMA:
        # On the log scale the mean is geometric, so a few bright spots hardly change it.
        wide = smooth_at(values, at, model._lengths(model.height_scale))
        heights = np.minimum(heights, _highest(seeds[at], wide))
    levels = model._levels(heights).astype(np.float32)
    # Keeps the seed itself, also in an object that is darker than the background.
    np.minimum(levels, np.nextafter(peaks_of, np.float32(0)), out=levels)
    labels[smoothed <= levels[labels]] = 0
    return keep_seeded(labels, seeds)


def _highest(ids: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the highest value of each id as float32, and 0 for ids without any."""
    found = np.zeros(int(ids.max()) + 1, np.float32)
    np.maximum.at(found, ids, values)
    return found
