"""Rings on the pairs of labels at the seams."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Points

from napari_blockbuster.inspect.doubt import doubt_of
from napari_blockbuster.machine.units import count_text
from napari_blockbuster.merge.assignment import Merge
from napari_blockbuster.merge.links import one_object
from napari_blockbuster.merge.rules import band_iou, face_iou
from napari_blockbuster.widgets.layers.viewer_layers import put_away, show_layer
from napari_blockbuster.widgets.texts import voxels_name

__all__ = ["SeamRings"]

RINGS = "seam rings"
"""Kind of the points layer."""
MOST_RINGS = 5_000
JOINED, APART = np.array([0.0, 0.62, 0.45, 1.0]), np.array([0.84, 0.37, 0.0, 1.0])


class SeamRings:
    """Points layer with a ring on each pair of labels.

    Attributes
    ----------
    layer : napari.layers.Points or None
        None until pairs are shown, and after the user removed the layer.
    """

    def __init__(self, viewer: Any, place: dict[str, Any]) -> None:
        self._viewer, self._place = viewer, place
        self.layer: Points | None = None

    def show(self, merged: Merge, rows: np.ndarray | None = None) -> None:
        """Show some rows of the evidence; by default the most doubtful ones first."""
        shown = _rings(merged, rows)
        if self.layer is not None:
            # To remove a layer takes napari a fifth of a second of garbage collection. An empty layer is hidden instead.
            self.layer.selected_data = set()
            self.layer.visible = bool(len(shown["data"]))
            if self.layer.visible:
                _replace(self.layer, shown)
        elif len(shown["data"]):
            self.layer = show_layer(self._viewer, RINGS, _new_layer(shown, self._place))

    def hide(self) -> None:
        """Put the rings away."""
        put_away(self._viewer, self.layer, RINGS)
        self.layer = None

    def select(self, number: int) -> tuple[np.ndarray, str]:
        """Select a ring; returns its voxel and a description of its pair."""
        assert self.layer is not None
        self.layer.selected_data = {number}
        row = self.layer.features.iloc[number]
        contact = count_text(int(row["contact"]), voxels_name(len(self._place["scale"])))
        text = (
            f"{number + 1:,} of {len(self.layer.data):,}: {row['decision']}, IoU {row['iou']:.2f}, "
            f"contact {contact}, tiles {row['low_tile']} and {row['high_tile']}"
        )
        return self.layer.data[number], text


def _rings(merged: Merge, rows: np.ndarray | None) -> dict[str, Any]:
    """Return data, features, sizes and colors of the rings."""
    if rows is None:
        rows = np.argsort(doubt_of(merged), kind="stable")
    rows = rows[:MOST_RINGS]
    seams = merged.seams[rows]
    contact = seams["contact"].sum(axis=1)
    decision = np.where(one_object(merged)[rows], "joined", "apart")
    return {
        "data": seams["position"],
        "features": {
            "decision": decision,
            "iou": np.maximum(band_iou(seams), face_iou(seams)).round(3),
            "contact": contact,
            "low_tile": seams["low"],
            "low_id": seams["low_id"],
            "high_tile": seams["high"],
            "high_id": seams["high_id"],
        },
        "size": np.clip(np.sqrt(np.maximum(contact, 1)), 4, 20),
        "border_color": np.where((decision == "joined")[:, None], JOINED, APART),
    }


def _new_layer(shown: dict[str, Any], place: dict[str, Any]) -> Points:
    return Points(
        **shown,
        name="Seams",
        # Discs would hide the seam.
        face_color="transparent",
        border_width=0.12,
        # Keep rings visible at any zoom.
        canvas_size_limits=(12, 36),
        projection_mode="rescale_linear",
        **place,
    )


def _replace(layer: Points, shown: dict[str, Any]) -> None:
    layer.data = shown["data"]
    layer.features = shown["features"]
    layer.size = shown["size"]
    layer.border_color = shown["border_color"]
    layer.face_color = "transparent"
    layer.refresh()
