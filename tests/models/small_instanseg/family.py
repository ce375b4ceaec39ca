"""The family that tests use: `InstanSeg` as it is, with the small network, and a count of what was loaded.

It is importable by the workers of a cluster, whose path is that of the tests.
"""

from __future__ import annotations

from napari_blockbuster.models import Segmenter
from napari_blockbuster.models.instanseg.model import InstanSeg

from . import WEIGHTS

LOADS: list[str] = []
"""One entry for each time that this process loaded a network."""


class SmallInstanSeg(InstanSeg):
    """InstanSeg with a network of a tenth of a megabyte."""

    weights: str = str(WEIGHTS)

    def load(self) -> Segmenter:
        """As `InstanSeg.load`, counted."""
        LOADS.append(self.weights)
        return super().load()


def loads() -> int:
    """How often this process loaded a network."""
    return len(LOADS)
