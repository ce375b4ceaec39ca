"""The one model that a process keeps loaded."""

from __future__ import annotations

from .base import Model, Segmenter

__all__ = ["load_once"]

_loaded: list[tuple[Model, Segmenter]] = []


def load_once(model: Model) -> Segmenter:
    """Return the segmenter of a model, and build it on first use.

    Only the last one is kept: two networks on one GPU would take the memory that tiles need.
    """
    for known, segmenter in _loaded:
        if known is model or known == model:
            return segmenter
    segmenter = model.load()
    _loaded[:] = [(model, segmenter)]
    return segmenter
