"""Show layers in a viewer, and put them away again. Layers are reused, never removed.

To remove a layer and then paint the canvas can crash the process with Mesa's software renderer (napari 0.9, vispy 0.17):
buffers and textures of the layer are deleted, but stay bound. Layers that are no longer needed are therefore hidden and
emptied, and reused for content of their kind.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer, Points, Shapes, Vectors
from napari.layers._multiscale_data import MultiScaleData
from napari.utils.notifications import show_info

from napari_blockbuster.machine.limits import memory_limit_bytes
from napari_blockbuster.machine.units import bytes_text

__all__ = ["PAINTED", "SPARE", "fill", "is_image", "make_savable", "protect", "put_away", "show_labels", "show_layer"]

SPARE = "blockbuster spare"
"""Key in the metadata of an unused layer for its kind."""
PAINTED = "blockbuster painted"
"""Key in the metadata of an image layer that shows measurements and is no image to segment."""
PLACE = ("scale", "translate", "affine", "units")
PAINTING = ("paint", "erase", "fill", "polygon")
"""Modes of a labels layer that change its voxels."""
NOT_PAINTED = "Duplicate this layer to paint on it. Inspect merges joins, cuts and deletes objects of a run."
"""Its first sentence fits on the line of a notification."""
QUIET = 1.0
"""Seconds until it is said again."""
CONTENT: dict[type[Layer], tuple[str, ...]] = {
    Points: ("features", "symbol", "size", "border_color", "face_color"),
    Vectors: ("edge_width", "edge_color"),
    Shapes: ("edge_width", "edge_color", "face_color"),
}
"""Attributes that go with the data of a layer."""


def is_image(layer: Layer) -> bool:
    """Return whether a layer shows an image that can be segmented."""
    return isinstance(layer, Image) and not layer.metadata.keys() & {PAINTED, SPARE}


def show_layer(viewer: Any, kind: str, layer: Layer, *, helper: bool = True) -> Layer:
    """Show points, vectors or shapes on top of all layers, in an unused layer of their kind if there is one.

    Parameters
    ----------
    viewer : napari.Viewer
    kind : str
        Layers are reused for the same kind only.
    layer : napari.layers.Layer
        The content. It is added if there is no unused layer.
    helper : bool, default True
        Do not change the selection of layers.

    Returns
    -------
    napari.layers.Layer
        The layer in the viewer.
    """
    selected = set(viewer.layers.selection)
    spare = _spare(viewer, kind, type(layer), layer.ndim)
    if spare is None:
        viewer.add_layer(layer)
    else:
        replace(spare, layer)
        _bring_back(viewer, spare, layer.name)
        layer = spare
    if helper:
        viewer.layers.selection = selected
    return layer


def replace(layer: Layer, content: Layer) -> None:
    """Give a layer the data, colors, sizes and place of another layer of its class, and show it."""
    # napari does not slice the data of a hidden layer, and then draws points that are gone.
    layer.visible = True
    layer.data = (content.data, content.shape_type) if isinstance(layer, Shapes) else content.data
    for name in (*CONTENT[type(layer)], *PLACE):
        setattr(layer, name, getattr(content, name))
    layer.refresh()


def show_labels(
    viewer: Any, kind: str, data: Any, name: str, *, helper: bool = False, multiscale: bool = False, **options: Any
) -> Labels:
    """Show labels on top of all layers, in an unused layer of their kind if there is one.

    Parameters
    ----------
    viewer : napari.Viewer
    kind : str
        Layers are reused for the same kind only. They keep the colors and contours that the user set.
    data : array_like, or a list of them
        As for `napari.layers.Labels`.
    name : str
    helper : bool, default False
        Do not change the selection of layers.
    multiscale : bool, default False
    **options
        Attributes of the layer, for example its scale.

    Returns
    -------
    napari.layers.Labels
    """
    selected = set(viewer.layers.selection)
    layer = _spare(viewer, kind, Labels, np.ndim(data[0] if multiscale else data), multiscale)
    if layer is None:
        layer = Labels(data, name=name, multiscale=multiscale, **options)
        make_savable(layer)
        protect(layer)
        viewer.add_layer(layer)
    else:
        fill(layer, data)
        for key, value in options.items():
            setattr(layer, key, value)
        _bring_back(viewer, layer, name)
    if helper:
        viewer.layers.selection = selected
    return layer


def _spare(viewer: Any, kind: str, wanted: type[Layer], ndim: int, multiscale: bool = False) -> Layer | None:
    for layer in viewer.layers:
        fits = type(layer) is wanted and layer.ndim == ndim and getattr(layer, "multiscale", False) == multiscale
        if fits and layer.metadata.get(SPARE) == kind:
            return layer
    return None


def _bring_back(viewer: Any, layer: Layer, name: str) -> None:
    """Show a reused layer on top of all layers."""
    layer.metadata = {}
    layer.name = name
    layer.visible = True
    viewer.layers.move(viewer.layers.index(layer), len(viewer.layers))
    viewer.layers.selection.active = layer


def fill(layer: Labels, data: Any) -> None:
    """Replace the data of a labels layer. Axes and number of scales (one or several) must be the same."""
    # napari would take a list of one level for a plain array.
    layer.data = MultiScaleData(data) if layer.multiscale else data
    make_savable(layer)


class SavableLevels(MultiScaleData):
    """Levels of a labels layer that any writer can save as one array.

    napari's own writer of labels asks levels for an array of a type. `MultiScaleData` raises a TypeError for that.
    """

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        if dtype is None:
            return np.asarray(self[-1])
        size = int(np.prod(self.shape, dtype=np.float64)) * np.dtype(dtype).itemsize
        if size > memory_limit_bytes() / 2:
            # napari hides a ValueError of a writer.
            raise MemoryError(
                f"These labels take {bytes_text(size)} as one array, too much for the memory of this computer. "
                "Save them as .ome.tif with the writer of Blockbuster, which works tile by tile."
            )
        return np.asarray(self[0], dtype=dtype)


def protect(layer: Labels) -> None:
    """Keep a user from painting on labels that the plugin replaces or that are not the file, and say why.

    napari itself does not paint on multiscale labels.
    """

    last = -QUIET

    def refuse(event: Any) -> None:
        nonlocal last
        if str(layer.mode) in PAINTING and SPARE not in layer.metadata:
            layer.mode = "pan_zoom"
            # A click on one of napari's buttons sets the mode twice.
            if time.monotonic() - last > QUIET:
                show_info(NOT_PAINTED)
            last = time.monotonic()

    layer.events.mode.connect(refuse)


def make_savable(layer: Labels) -> None:
    """Let napari save a multiscale labels layer at full resolution."""
    if layer.multiscale:
        layer._data = SavableLevels(list(layer.data))


def put_away(viewer: Any, layer: Layer | None, kind: str) -> None:
    """Hide and empty a layer, if the viewer has it, so that `show_labels` or `show_layer` can reuse it."""
    if layer is None or layer not in viewer.layers or SPARE in layer.metadata:
        return
    layer.visible = False
    _empty(layer)
    # napari forgets the extent of the data that a hidden layer had only when its place is set.
    layer.translate = layer.translate
    layer.metadata = {SPARE: kind}
    layer.name = f"{layer.name} (empty)"
    viewer.layers.selection.discard(layer)


def _empty(layer: Layer) -> None:
    """Remove the content of a layer, so that it takes no memory and is no part of the extent of the scene."""
    if isinstance(layer, Labels):
        empty = np.zeros((1,) * layer.ndim, np.uint8)
        fill(layer, [empty] if layer.multiscale else empty)
    elif isinstance(layer, Points):
        layer.selected_data = set()
        layer.data = np.zeros((0, layer.ndim))
    elif isinstance(layer, Vectors):
        layer.data = np.zeros((0, 2, layer.ndim))
    else:
        layer.data = []
