"""Layers are put away and reused, never removed: a removed layer can crash software GL at the next paint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Points, Shapes, Vectors

import napari_blockbuster.widgets
from napari_blockbuster.widgets.layers.viewer_layers import put_away, show_labels, show_layer


def points(n: int, scale: float) -> Points:
    rng = np.random.default_rng(n)
    return Points(
        rng.random((n, 2)),
        features={"tile": np.arange(n)},
        size=np.linspace(4, 20, n),
        border_color=rng.random((n, 4)),
        scale=(scale, scale),
    )


def vectors(n: int, scale: float) -> Vectors:
    return Vectors(np.random.default_rng(n).random((n, 2, 2)), edge_width=n / 10, scale=(scale, scale))


def shapes(n: int, scale: float) -> Shapes:
    corners = np.array([[0, 0], [0, 5], [5, 5], [5, 0]])
    return Shapes([corners + k for k in range(n)], shape_type="rectangle", edge_width=n, scale=(scale, scale))


@pytest.mark.parametrize("make", [points, vectors, shapes])
def test_a_reused_layer_is_like_a_new_one(make: object) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 4)))
    alone = viewer.layers.extent.world
    viewer.layers.selection.active = image
    first = show_layer(viewer, "some", make(5, 1))
    first.opacity = 0.3
    put_away(viewer, first, "some")
    assert not first.visible
    assert len(first.data) == 0
    # Views are reset to what is shown.
    np.testing.assert_array_equal(viewer.layers.extent.world, alone)

    assert show_layer(viewer, "another", make(2, 1)) is not first
    fresh = make(9, 0.5)
    again = show_layer(viewer, "some", fresh)
    assert again is first
    assert again.visible
    assert viewer.layers[-1] is again
    assert again.opacity == 0.3, "what the user set stays"
    assert "(empty)" not in again.name
    for name in ("scale", "size", "edge_width", "border_color", "edge_color", "face_color"):
        if hasattr(fresh, name):
            np.testing.assert_allclose(getattr(again, name), getattr(fresh, name), err_msg=name)
    for one, other in zip(again.data, fresh.data, strict=True):
        np.testing.assert_array_equal(one, other)
    assert list(again.features.index) == list(fresh.features.index)
    assert viewer.layers.selection.active is image


def test_labels_that_are_put_away_do_not_widen_the_view() -> None:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 4)))
    alone = viewer.layers.extent.world
    labels = show_labels(viewer, "some", np.ones((90, 90), np.uint8), "Labels")
    put_away(viewer, labels, "some")
    np.testing.assert_array_equal(viewer.layers.extent.world, alone)


def test_no_layer_is_removed_anywhere() -> None:
    folder = Path(napari_blockbuster.widgets.__file__).parent
    found = [
        f"{path.name}: {line.strip()}"
        for path in folder.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"layers\.(remove|pop|clear)\(|del .*layers\[", line)
    ]
    assert found == []


def test_fewer_points_than_before_are_drawn(make_napari_viewer: Any) -> None:
    """napari draws a layer while it is filled, here with points that it has no more."""
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((4, 4)))
    layer = show_layer(viewer, "some", points(5, 1))
    put_away(viewer, layer, "some")
    assert show_layer(viewer, "some", points(1, 1)) is layer
    assert len(layer._view_data) == 1
