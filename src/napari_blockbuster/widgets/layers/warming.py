"""Compile what napari compiles when it first draws labels, before labels arrive."""

from __future__ import annotations

import contextlib
import functools
import threading

import numpy as np

__all__ = ["warm_napari"]

TYPES = (np.int32, np.uint32)
"""Types of live and of written labels."""


@functools.cache
def warm_napari() -> threading.Thread:
    """Start a thread that does it, once per process.

    napari maps labels to colors with numba. The first labels layer of a process would block the viewer for seconds.
    """
    thread = threading.Thread(target=_compile, name="blockbuster-warm", daemon=True)
    thread.start()
    return thread


def _compile() -> None:
    # Only time is lost if napari renames its functions.
    with contextlib.suppress(Exception):
        from napari.utils.colormaps import label_colormap

        colors = label_colormap(49)
        for dtype in TYPES:
            # One axis: napari asks for the type of the texture that way.
            for ndim in (1, 2, 3):
                colors._data_to_texture(np.ones((4,) * ndim, dtype))
