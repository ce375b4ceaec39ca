"""A viewer with the table of a labels layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def squares() -> np.ndarray:
    """Labels of 60 rectangles of growing width in 3D, of one plane each: uint16, (3, 200, 260)."""
    labels = np.zeros((3, 200, 260), np.uint16)
    for k in range(60):
        z, place = divmod(k, 20)
        y, x = divmod(place, 5)
        labels[z, 50 * y + 5 : 50 * y + 5 + 10, 50 * x + 5 : 50 * x + 6 + k % 40] = k + 1
    return labels


@pytest.fixture
def open_table(make_napari_viewer: Any, until: Any) -> Callable[..., tuple[Any, Any, Any]]:
    """Open a viewer with labels and their table, from the menu's command."""

    def make(labels: Any, show: bool = False, **options: Any) -> tuple[Any, Any, Any]:
        from napari_blockbuster.widgets.menu.commands import show_object_table

        viewer = make_napari_viewer(show=show)
        layer = viewer.add_labels(labels, name="cells", **options)
        table = show_object_table(viewer)
        if not show:
            # A hidden window shows none of its widgets.
            table.follower.pause(False)
            table.clicks.turn(True)
        until(lambda: table.content is not None)
        return viewer, layer, table

    return make
