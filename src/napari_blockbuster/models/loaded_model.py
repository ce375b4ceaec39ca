"""The model that this process has loaded."""

from __future__ import annotations

from napari_blockbuster.models.base import Model, Segmenter

__all__ = ["load_once"]

_loaded: list[tuple[Model, Segmenter]] = []


def load_once(model: Model) -> Segmenter:
    """The model's segmenter, built on first use and kept for as long as this process runs the same model.

    One is kept, not more: two networks on one GPU would take the memory that the tiles need.
    """
    for known, segmenter in _loaded:
        if known is model or known == model:
            return segmenter
    segmenter = model.load()
    _loaded[:] = [(model, segmenter)]
    return segmenter
