"""The one model that a process keeps loaded."""

from __future__ import annotations

from napari_blockbuster.models.networks.base import NetworkModel, NetworkSegmenter

from .base import Model, Segmenter

__all__ = ["load_once"]

_loaded: list[tuple[Model, Segmenter]] = []


def load_once(model: Model) -> Segmenter:
    """Return the segmenter of a model, and build it on first use.

    Only the last one is kept: two networks on one GPU would take the memory that tiles need. A network that is loaded
    serves the next image as well, if only their brightness differs.
    """
    for known, segmenter in _loaded:
        if known is model or known == model:
            return segmenter
        if isinstance(known, NetworkModel) and known.same_network(model) and isinstance(segmenter, NetworkSegmenter):
            renewed: Segmenter = segmenter.with_settings(model)
            _loaded[:] = [(model, renewed)]
            return renewed
    segmenter = model.load()
    _loaded[:] = [(model, segmenter)]
    return segmenter
