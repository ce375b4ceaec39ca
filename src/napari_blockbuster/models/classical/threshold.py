"""Threshold and connected components, for masks, vessels and other objects that do not touch."""

from __future__ import annotations

import functools
from typing import ClassVar, Self

import numpy as np

from napari_blockbuster.models.base import PixelSource, Segmenter, Suggestion, setting
from napari_blockbuster.models.spacing import SpacedModel, check_rank, per_axis

from .filters import smooth
from .intensity import LogScale, measured_range, split

__all__ = ["Threshold", "ThresholdedModel"]

BAND = 8
"""Voxels beyond the reach of the smoothing, where neighboring tiles are compared."""


class ThresholdedModel(SpacedModel):
    """A model that starts with ``smoothed image > threshold``."""

    threshold: float | None = setting(
        None, "Gray value above which objects begin. Empty: Otsu's threshold of the whole image.", unit="gray value"
    )
    sigma: float = setting(
        1.0, "Gaussian smoothing before the threshold, in voxels of the finest axis.", unit="px", ge=0, le=100
    )

    def prepare(self, image: PixelSource) -> Self:
        """Fill in anisotropy and threshold, measured on blocks of the whole image."""
        spaced = self.model_copy(update={"spacing": self._spacing_of(image)})
        if self.threshold is not None:
            return spaced
        blocks = image.sample_blocks()
        scale = LogScale(*measured_range(blocks))
        threshold = split(blocks, scale, lambda block: scale(spaced._smoothed(block))).threshold
        return spaced.model_copy(update={"threshold": threshold})

    def _smoothed(self, tile: np.ndarray) -> np.ndarray:
        assert self.spacing is not None
        # Without smoothing, gray values are compared exactly.
        return tile if self.sigma == 0 else smooth(tile, per_axis(self.sigma, self.spacing))

    def _foreground(self, tile: np.ndarray) -> np.ndarray:
        assert self.threshold is not None
        check_rank(tile, self.spacing)
        return np.asarray(self._smoothed(tile) > self.threshold)


class Threshold(ThresholdedModel):
    """Connected components above a threshold (Otsu 1979, IEEE SMC 9:62, on the log scale, unless it is given).

    Components may be larger than any halo. Merge them with the rule ``touch``, which gives exactly the components of the
    whole image.
    """

    family: ClassVar[str] = "threshold"
    summary: ClassVar[str] = "Threshold and connected components: masks and structures that do not touch"

    connectivity: int = setting(1, "Connectivity of voxels: 1 across faces, 2 also edges, 3 also corners.", ge=1, le=3)

    def suggest(self, image: PixelSource) -> Suggestion:
        """Return no tile, and a halo for the smoothing and a band to compare neighbors."""
        return self._halo(image, 3 * self.sigma + BAND)

    def load(self) -> Segmenter:
        """Return the segmenter, which turns arrays of any real type into int32 labels.

        Raises
        ------
        RuntimeError
            If the model is not prepared.
        """
        self._require("spacing", "threshold")
        return functools.partial(_segment, self)


def _segment(model: Threshold, tile: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(tile.ndim, min(model.connectivity, tile.ndim))
    labels = np.zeros(tile.shape, np.int32)
    ndimage.label(model._foreground(tile), structure, labels)
    return labels
