"""Layers that the plugin adds to a viewer, and the view that the user has of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer, Points, Shapes
from napari.utils.colormaps import DirectLabelColormap

from ..images import ImageSource, open_image
from ..merge import Merge
from ..ome_zarr import labels_info
from ..rules import band_iou, face_iou
from ..tiling import Box, TileGrid
from .live import LiveLabels

__all__ = [
    "STATES",
    "image_of",
    "live_layer",
    "show_result",
    "show_seams",
    "show_tile",
    "tile_map_layer",
    "visible_box",
]

# Okabe and Ito's colours, told apart with any kind of colour vision; brightness differs as well.
STATES = {
    "waiting": (0.35, 0.35, 0.35, 0.15),
    "running": (0.94, 0.89, 0.26, 0.5),
    "done": (0.0, 0.45, 0.70, 0.35),
    "empty": (0.60, 0.60, 0.60, 0.45),
    "failed": (0.84, 0.37, 0.0, 0.8),
}
STATE_NUMBER = {state: number for number, state in enumerate(STATES, 1)}


# --------------------------------------------------------------------------------------------------- from a layer to an image
def image_of(layer: Image, level: int = 0) -> ImageSource:
    """The image that a layer shows, read from its file where there is one: workers can then read it themselves.

    Parameters
    ----------
    layer : napari.layers.Image
    level : int
        Level of a multiscale layer.
    """
    data = layer.data[level] if layer.multiscale else layer.data
    path = getattr(layer.source, "path", None)
    if path:
        found = _same_image(str(path), level, tuple(data.shape))
        if found is not None:
            return found
    return _scaled(open_image(data, axes=_axes(layer, data.ndim)), layer)


def _same_image(path: str, level: int, shape: tuple[int, ...]) -> ImageSource | None:
    try:
        found = open_image(path, level=level)
    except (OSError, ValueError):
        return None
    return found if found.shape == shape else None


def _axes(layer: Image, ndim: int) -> str | None:
    names = [str(name).lower() for name in getattr(layer, "axis_labels", ())]
    if len(names) == ndim and set(names) <= set("tczyx"):
        return "".join(names)
    # napari shows sliders for what comes before z: of four axes the first is time.
    return {4: "tzyx"}.get(ndim)


def _scaled(source: ImageSource, layer: Image) -> ImageSource:
    from dataclasses import replace

    scale = tuple(float(s) for s in layer.scale[-source.ndim :])
    units = tuple(None if str(u) == "pixel" else str(u) for u in layer.units[-source.ndim :])
    source.layout = replace(source.layout, scale=scale, units=units)
    source.name = layer.name
    return source


# ------------------------------------------------------------------------------------------------------------- layers
def placing(layer: Layer, ndim: int) -> dict[str, Any]:
    """Scale and place of a layer, for one that lies on it."""
    return {"scale": layer.scale[-ndim:], "translate": layer.translate[-ndim:]}


def live_layer(live: LiveLabels, image: Layer, name: str) -> Labels:
    """A labels layer of a running job."""
    data = live.levels if live.multiscale else live.levels[0]
    return Labels(data, name=name, multiscale=live.multiscale, opacity=0.6, **placing(image, live.grid.ndim))


def show_result(path: Any, like: Labels) -> Labels:
    """The written labels, lazily, with name, colours and place of the live layer that they replace."""
    from ..ome_zarr import open_labels

    n_levels = len(labels_info(path)["shapes"])
    levels = [open_labels(path, level) for level in range(n_levels)]
    layer = Labels(
        levels if n_levels > 1 else levels[0],
        name=like.name,
        multiscale=n_levels > 1,
        scale=like.scale,
        translate=like.translate,
        opacity=like.opacity,
        visible=like.visible,
        blending=like.blending,
        colormap=like.colormap,
        metadata={"blockbuster": str(path)},
    )
    layer.contour = like.contour
    return layer


def tile_map_layer(grid: TileGrid, image: Layer) -> Labels:
    """One pixel for each tile, as large as the tile: what is waiting, running, done, empty or failed."""
    colours = {None: (0, 0, 0, 0)} | {STATE_NUMBER[s]: colour for s, colour in STATES.items()}
    scale = np.asarray(image.scale[-grid.ndim :])
    tile = np.asarray(grid.tile_shape)
    return Labels(
        np.full(grid.grid_shape, STATE_NUMBER["waiting"], np.uint8),
        name="Tiles",
        colormap=DirectLabelColormap(color_dict=colours),
        scale=scale * tile,
        # A pixel's centre is its place: the first tile's centre is half a tile from the first voxel's.
        translate=np.asarray(image.translate[-grid.ndim :]) + scale * (tile - 1) / 2,
        opacity=0.5,
        visible=False,
    )


def show_tile(grid: TileGrid, index: int, image: Layer, layer: Shapes | None) -> Shapes:
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
        edge_width=max(1.0, min(grid.tile_shape[-2:]) / 100),
        ndim=2,
        scale=image.scale[-2:],
        translate=image.translate[-2:],
    )


def _rectangle(box: Box) -> np.ndarray:
    (top, left), (bottom, right) = box.start[-2:], box.stop[-2:]
    # Outlines run between voxels, half a voxel before the first one's centre.
    return np.array([[top, left], [top, right], [bottom, right], [bottom, left]], float) - 0.5


def show_seams(merged: Merge, image: Layer, doubt: float = 0.15, most: int = 20_000) -> Points | None:
    """Pairs of labels at the seams as rings: joined, apart, and in doubt. Rings, since discs would hide the seam."""
    seams, joined = merged.seams, merged.joined
    if not len(seams):
        return None
    iou = np.maximum(band_iou(seams), face_iou(seams))
    doubtful = np.abs(iou - merged.min_iou) < doubt
    order = np.argsort(~doubtful, kind="stable")[:most]
    decision = np.where(joined, "joined", "apart")[order]
    colours = {"joined": "#009e73", "apart": "#d55e00"}
    extent = np.sqrt(np.maximum(seams["contact"][order].sum(axis=1), 1))
    return Points(
        seams["position"][order],
        name="Seams",
        features={
            "decision": decision,
            "iou": iou[order].round(3),
            "contact": seams["contact"][order].sum(axis=1),
            "low_tile": seams["low"][order],
            "low_id": seams["low_id"][order],
            "high_tile": seams["high"][order],
            "high_id": seams["high_id"][order],
            "doubtful": doubtful[order],
        },
        size=np.clip(extent * 2, 6, 40),
        face_color="transparent",
        border_color=[colours[d] for d in decision],
        border_width=0.15,
        out_of_slice_display=True,
        **placing(image, seams["position"].shape[1]),
    )


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
