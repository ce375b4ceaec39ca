"""Segment images larger than memory, tile by tile, with one consistent set of labels.

The engine; the napari plugin lives in `napari_blockbuster.widgets` and is not imported here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_blockbuster.api import convert, relate, segment, segment_many
    from napari_blockbuster.execution.cluster import make_local_cluster
    from napari_blockbuster.geometry.tiles import TileGrid
    from napari_blockbuster.images.content.tissue import tissue_mask
    from napari_blockbuster.job.job import Heartbeat, Job, TileFailed, TileStaged
    from napari_blockbuster.job.measurement import measure_objects
    from napari_blockbuster.output.result import Result

__version__ = "0.1.0"
__all__ = [
    "Heartbeat",
    "Job",
    "Result",
    "TileFailed",
    "TileGrid",
    "TileStaged",
    "convert",
    "make_local_cluster",
    "measure_objects",
    "relate",
    "segment",
    "segment_many",
    "tissue_mask",
]

_HOME = {
    "Heartbeat": "job.progress.events",
    "Job": "job.job",
    "Result": "output.result",
    "TileFailed": "job.progress.events",
    "TileGrid": "geometry.tiles",
    "TileStaged": "job.progress.events",
    "convert": "api",
    "measure_objects": "job.measurement",
    "make_local_cluster": "execution.cluster",
    "relate": "api",
    "segment": "api",
    "tissue_mask": "images.content.tissue",
    "segment_many": "api",
}


def __getattr__(name: str) -> Any:
    # Names load on first use: importing the package costs nothing to a viewer that only lists its plugins.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
