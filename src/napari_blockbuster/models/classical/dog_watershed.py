"""Difference-of-Gaussians watershed, for crowded tissue and uneven background."""

from __future__ import annotations

import functools
from typing import ClassVar, Self

import numpy as np

from napari_blockbuster.models.base import PixelSource, Segmenter, setting

from .blobs import BlobModel
from .filters import difference_of_gaussians, flood, keep_seeded, otsu, peaks

__all__ = ["DogWatershed"]

SEED_SIGMA = 0.22
SEED_RADIUS = 0.12
OUTLINE_SIGMA = 0.15
"""Scales of seeds and outlines, and half the window in which a seed is highest, in diameters."""
BINS = 512


class DogWatershed(BlobModel):
    """Find blobs by their contrast with their surroundings.

    On the log scale, seeds are maxima of a difference of Gaussians as wide as an object (Lindeberg 1998, IJCV 30:79).
    Outlines are the zero crossings of a finer one (Marr & Hildreth 1980, Proc. R. Soc. B 207:187), divided by a
    watershed. There is no global threshold on brightness, so the model tolerates an uneven background and separates
    objects without a gap. Outlines are less exact than those of `VoronoiOtsu`.
    """

    family: ClassVar[str] = "dog-watershed"
    summary: ClassVar[str] = "Crowded tissue and uneven background: blobs by local contrast, from one diameter"

    contrast: float | None = setting(
        None,
        "Least contrast of an object with its surroundings, on the log scale. Increase it if objects are found in the "
        "background. Empty: Otsu's threshold of the whole image.",
        unit="log units",
        ge=0,
        le=10,
    )

    def prepare(self, image: PixelSource) -> Self:
        """Fill in anisotropy, brightness range and contrast, measured on blocks of the whole image."""
        blocks = image.sample_blocks()
        scaled = self._scaled(blocks, image)
        if self.contrast is not None:
            return scaled
        return scaled.model_copy(update={"contrast": scaled._measure(blocks)})

    def _measure(self, blocks: list[np.ndarray]) -> float:
        # A difference of Gaussians has a far smaller range than the brightness.
        fields = [difference_of_gaussians(self._scale(block), self._lengths(SEED_SIGMA)) for block in blocks]
        top = max((float(field.max()) for field in fields if field.size), default=0.0)
        bottom = min((float(field.min()) for field in fields if field.size), default=0.0)
        if top <= bottom:
            return 0.0
        counts = sum(np.histogram(field, bins=BINS, range=(bottom, top))[0] for field in fields)
        centers = bottom + (np.arange(BINS) + 0.5) * ((top - bottom) / BINS)
        return max(0.0, otsu(np.asarray(counts), centers))

    def load(self) -> Segmenter:
        """Return the segmenter, which turns arrays of any real type into int32 labels.

        Raises
        ------
        RuntimeError
            If the model is not prepared.
        """
        self._require("spacing", "low", "high", "contrast")
        return functools.partial(_segment, self)


def _segment(model: DogWatershed, tile: np.ndarray) -> np.ndarray:
    assert model.contrast is not None
    model._check_tile(tile)
    values = model._scale(tile)
    blobs = difference_of_gaussians(values, model._lengths(SEED_SIGMA))
    seeds = peaks(blobs, blobs > model.contrast, model._lengths(SEED_RADIUS))
    if not seeds.any():
        return seeds
    edges = difference_of_gaussians(values, model._lengths(OUTLINE_SIGMA))
    return keep_seeded(flood(blobs, seeds, (edges > 0) & (blobs > 0)), seeds)
