"""Layers that the plugin adds to a viewer, and the view that the user has of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Labels, Layer, Points, Shapes, Vectors
from napari.utils.colormaps import DirectLabelColormap

from napari_blockbuster.geometry.tiles import Box, TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.merge.mapping import Merge
from napari_blockbuster.merge.rules import band_iou, face_iou
from napari_blockbuster.output.label_image import labels_info
from napari_blockbuster.stage.store import TileFailure

from .label_layers import fill, show_labels
from .live import LiveLabels

__all__ = [
    "LIVE",
    "RESULT",
    "STATES",
    "STATE_NUMBER",
    "TILE_MAP",
    "centre_of",
    "failed_layer",
    "grid_lines",
    "live_data",
    "moved",
    "place_of",
    "placing",
    "replace_points",
    "seam_points",
    "seams_layer",
    "show_live",
    "show_result",
    "show_tile",
    "show_tile_map",
    "visible_box",
    "voxel_at",
    "world_at",
]

LIVE, TILE_MAP = "live labels", "tile map"
"""Kinds of labels layers."""
RESULT = "blockbuster"
"""Where the metadata of a layer say which written labels it shows."""
# Okabe and Ito's colours, told apart with any kind of colour vision; brightness differs as well.
STATES = {
    "waiting": (0.35, 0.35, 0.35, 0.15),
    "running": (0.94, 0.89, 0.26, 0.5),
    "done": (0.0, 0.45, 0.70, 0.35),
    "empty": (0.60, 0.60, 0.60, 0.45),
    "failed": (0.84, 0.37, 0.0, 0.8),
}
JOINED, APART = np.array([0.0, 0.62, 0.45, 1.0]), np.array([0.84, 0.37, 0.0, 1.0])
STATE_NUMBER = {state: number for number, state in enumerate(STATES, 1)}


def placing(layer: Layer, ndim: int, level: int = 0) -> dict[str, Any]:
    """Scale and place of one level of a layer, for layers of `ndim` axes that lie on it."""
    factors = layer.downsample_factors[level] if getattr(layer, "multiscale", False) else np.ones(layer.ndim)
    return {
        "scale": (np.asarray(layer.scale) * factors)[-ndim:],
        "translate": np.asarray(layer.translate)[-ndim:],
        "units": tuple(layer.units)[-ndim:],
    }


def place_of(source: ImageSource) -> dict[str, Any]:
    """Scale and place of an image that no layer shows yet."""
    return {
        "scale": np.asarray(source.scale, float),
        "translate": np.asarray(source.translation or (0.0,) * source.ndim, float),
        "units": tuple(unit or "pixel" for unit in source.units),
    }


def moved(place: dict[str, Any], start: Sequence[int]) -> dict[str, Any]:
    """The place of a part of an image, from the place of the whole and the part's first voxel."""
    return place | {"translate": world_at(place, start)}


def _in_plane(place: dict[str, Any]) -> dict[str, Any]:
    """The place of a layer that has only the last two axes, and lies on every plane."""
    return {name: values[-2:] for name, values in place.items()}


def world_at(place: dict[str, Any], voxel: Any) -> np.ndarray:
    """The place of a voxel of the image in world coordinates."""
    return np.asarray(place["translate"] + place["scale"] * np.asarray(voxel, float))


def voxel_at(place: dict[str, Any], world: Any) -> np.ndarray:
    """The voxel of the image at a place in world coordinates (not rounded)."""
    spatial = np.asarray(world, float)[-len(place["scale"]) :]
    return np.asarray((spatial - place["translate"]) / place["scale"])


def centre_of(box: Box) -> np.ndarray:
    """The middle of a box, in voxels: that of its first voxel is its index."""
    return (np.asarray(box.start) + box.stop - 1) / 2


def show_live(viewer: Any, live: LiveLabels, place: dict[str, Any], name: str) -> Labels:
    """Show the labels of a running job."""
    return show_labels(viewer, LIVE, live_data(live), name, multiscale=live.multiscale, opacity=0.6, **place)


def live_data(live: LiveLabels) -> Any:
    """Data of a layer that shows the labels of a running job."""
    return live.levels if live.multiscale else live.levels[0]


def show_result(path: Any, layer: Labels) -> None:
    """Put the written labels, read lazily, into the layer of the live labels; its colors and place stay."""
    from napari_blockbuster.output.label_image import open_labels

    n_levels = len(labels_info(path)["shapes"]) if layer.multiscale else 1
    levels = [open_labels(path, level) for level in range(n_levels)]
    fill(layer, levels if layer.multiscale else levels[0])
    layer.metadata = {RESULT: str(path)}


def show_tile_map(viewer: Any, grid: TileGrid, place: dict[str, Any]) -> Labels:
    """Show one pixel for each tile, as large as the tile: what is waiting, running, done, empty or failed."""
    colours = {None: (0, 0, 0, 0)} | {STATE_NUMBER[s]: colour for s, colour in STATES.items()}
    tile = np.asarray(grid.tile_shape)
    return show_labels(
        viewer,
        TILE_MAP,
        np.full(grid.grid_shape, STATE_NUMBER["waiting"], np.uint8),
        "Tiles",
        colormap=DirectLabelColormap(color_dict=colours),
        scale=place["scale"] * tile,
        # A pixel's centre is its place: the first tile's centre is half a tile from the first voxel's.
        translate=world_at(place, (tile - 1) / 2),
        units=place["units"],
        features={"index": list(STATE_NUMBER.values()), "state": list(STATE_NUMBER)},
        opacity=0.35,
    )


def show_tile(grid: TileGrid, index: int, place: dict[str, Any], layer: Shapes | None) -> Shapes:
    """The outline of a tile and of what it reads, on the plane that the viewer shows."""
    tile = grid[index]
    boxes = [_rectangle(tile.core), _rectangle(tile.read)]
    if layer is not None:
        layer.data = boxes
        return layer
    return Shapes(
        boxes,
        shape_type="rectangle",
        name="Tile and halo",
        edge_color=["#f0e442", "#56b4e9"],
        face_color="transparent",
        edge_width=_line_width(grid),
        **_in_plane(place),
    )


def grid_lines(grid: TileGrid, place: dict[str, Any]) -> Vectors:
    """The borders of all tiles, as lines across the plane that the viewer shows."""
    rows, columns = grid.shape[-2:]
    lines = []
    for axis, (size, step) in enumerate(zip(grid.shape[-2:], grid.tile_shape[-2:], strict=True)):
        for at in [*range(0, size, step), size]:
            start, along = [-0.5, -0.5], [0.0, 0.0]
            start[axis], along[1 - axis] = at - 0.5, (columns, rows)[axis]
            lines.append([start, along])
    return Vectors(
        np.array(lines, float),
        name="Tile grid",
        vector_style="line",
        edge_color="#f0e442",
        edge_width=_line_width(grid),
        opacity=0.6,
        **_in_plane(place),
    )


def _line_width(grid: TileGrid) -> float:
    return max(1.0, min(grid.tile_shape[-2:]) / 100)


def _rectangle(box: Box) -> np.ndarray:
    (top, left), (bottom, right) = box.start[-2:], box.stop[-2:]
    # Outlines run between voxels, half a voxel before the first one's centre.
    return np.array([[top, left], [top, right], [bottom, right], [bottom, left]], float) - 0.5


def failed_layer(grid: TileGrid, failures: dict[int, TileFailure], place: dict[str, Any]) -> Points:
    """A cross on each failed tile, with the reason."""
    return Points(
        np.array([centre_of(grid[index].core) for index in failures]),
        name="Failed tiles",
        symbol="cross",
        size=max(grid.tile_shape[-2:]) / 4,
        face_color="#d55e00",
        border_color="white",
        features={"tile": list(failures), "reason": [f"{f.error}: {f.message}" for f in failures.values()]},
        projection_mode="rescale_linear",
        **place,
    )


def seam_points(merged: Merge, rows: np.ndarray | None = None, most: int = 5_000) -> dict[str, Any]:
    """Data, features, sizes and colours of rings on pairs; by default the most doubtful ones, at most `most`."""
    from napari_blockbuster.widgets.inspector.pairs_model import doubt_of

    if rows is None:
        rows = np.argsort(doubt_of(merged), kind="stable")
    rows = rows[:most]
    seams = merged.seams[rows]
    contact = seams["contact"].sum(axis=1)
    decision = np.where(merged.joined[rows], "joined", "apart")
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


def seams_layer(shown: dict[str, Any], place: dict[str, Any]) -> Points:
    """Rings, since discs would hide the seam."""
    return Points(
        **shown,
        name="Seams",
        face_color="transparent",
        border_width=0.12,
        # On the screen, never a dot and never a wall, however far the view is zoomed.
        canvas_size_limits=(12, 36),
        projection_mode="rescale_linear",
        **place,
    )


def replace_points(layer: Points, shown: dict[str, Any]) -> None:
    """Show other rings in a layer."""
    layer.data = shown["data"]
    layer.features = shown["features"]
    layer.size = shown["size"]
    layer.border_color = shown["border_color"]
    layer.face_color = "transparent"
    layer.refresh()


def visible_box(layer: Layer, grid: TileGrid, step: Sequence[float], displayed: Sequence[int]) -> Box:
    """What of an image is on the screen, in voxels of the full resolution.

    Parameters
    ----------
    layer : napari layer
        The live labels.
    grid : TileGrid
    step : sequence of float
        The viewer's point in world coordinates.
    displayed : sequence of int
        Axes on the screen.
    """
    corners = np.asarray(layer.corner_pixels, float)
    if layer.multiscale:
        corners = corners * np.asarray(layer.downsample_factors[layer.data_level])
    place = layer.world_to_data(step)
    start, stop = [], []
    for axis, n in enumerate(grid.shape):
        low, high = (corners[0][axis], corners[1][axis] + 1) if axis in displayed else (place[axis], place[axis] + 1)
        start.append(int(np.clip(low, 0, n - 1)))
        stop.append(int(np.clip(np.ceil(high), start[-1] + 1, n)))
    return Box(tuple(start), tuple(stop))
