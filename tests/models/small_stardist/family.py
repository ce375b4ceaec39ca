"""The family that tests use: `StarDist` as it is, with the small network, and a count of what was loaded.

It is importable by the workers of a cluster, whose path is that of the tests.
"""

from __future__ import annotations

from napari_blockbuster.models import Segmenter
from napari_blockbuster.models.stardist.model import StarDist

from . import FLAT

LOADS: list[str] = []
"""One entry for each time that this process loaded a network."""


class SmallStarDist(StarDist):
    """StarDist with weights of half a megabyte."""

    weights: str | None = str(FLAT)

    def load(self) -> Segmenter:
        """As `StarDist.load`, counted."""
        LOADS.append(str(self.weights))
        return super().load()


def loads() -> int:
    """How often this process loaded a network."""
    return len(LOADS)
