"""The family that tests use: `Cellpose` as it is, with the small network where Cellpose resolves its network's class.

It is importable by the workers of a cluster, whose path is that of the tests.
"""

from __future__ import annotations

from unittest import mock

from napari_blockbuster.models import Segmenter
from napari_blockbuster.models.cellpose.imports import import_cellpose
from napari_blockbuster.models.cellpose.model import Cellpose

from . import WEIGHTS

LOADS: list[str] = []
"""One entry for each time that this process loaded a network."""


class SmallCellpose(Cellpose):
    """Cellpose with weights of a quarter of a megabyte."""

    weights: str = str(WEIGHTS)

    def load(self) -> Segmenter:
        """As `Cellpose.load`, with another network."""
        models = import_cellpose()
        from .network import SmallNetwork

        LOADS.append(self.weights)
        with mock.patch.object(models, "CPSAM", SmallNetwork):
            return super().load()


def loads() -> int:
    """How often this process loaded a network."""
    return len(LOADS)
