"""Writer of labels layers that are saved in napari as OME-TIFF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.output.tiff_export import LabelSource, export_tiff
from napari_blockbuster.widgets.layers.of_job.live_layer import RESULT

__all__ = ["write_labels"]

AXES = "tzyx"


@dataclass(frozen=True)
class _ArrayLevel:
    """A level of a layer, of which only the box that is read is computed."""

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.array.dtype)

    def read(self, box: Box) -> np.ndarray:
        return np.asarray(self.array[box.slices])


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Save a labels layer as OME-TIFF, tile by tile. napari has asked before an existing file is replaced.

    Raises
    ------
    RuntimeError, OSError
        If the layer cannot be saved, and why.
    """
    written = meta.get("metadata", {}).get(RESULT)
    try:
        if written is not None:
            source = LabelSource.of(written)
        else:
            levels = [_ArrayLevel(level) for level in (data if meta.get("multiscale") else [data])]
            source = _source(levels, meta)
        return [str(export_tiff(source, path, overwrite=True))]
    except ValueError as error:
        # napari hides a ValueError of a writer.
        raise RuntimeError(str(error)) from error


def _source(levels: Sequence[_ArrayLevel], meta: dict[str, Any]) -> LabelSource:
    ndim = len(levels[0].shape)
    if ndim > len(AXES):
        raise ValueError(f"The layer has {ndim} axes. OME-TIFF holds at most time, z, y and x: save a part of it.")
    units = [None if str(unit) == "pixel" else str(unit) for unit in meta.get("units") or ["pixel"] * ndim]
    return LabelSource(levels, AXES[-ndim:], [float(s) for s in meta.get("scale", [1.0] * ndim)], units)
