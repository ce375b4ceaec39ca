"""Add layers to a viewer and remove them again. Labels layers are reused.

To remove a labels layer and then paint the canvas crashes the process with Mesa's software renderer (napari 0.9,
vispy 0.17). Labels layers that are no longer needed are therefore hidden and emptied, and reused for labels of their kind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels

__all__ = ["add_helper", "fill", "put_away", "remove_layer", "show_labels"]

SPARE = "blockbuster spare"
"""Key in the metadata of an unused layer for its kind."""


def add_helper(viewer: Any, layer: Any) -> None:
    """Add a layer without selecting it."""
    selected = set(viewer.layers.selection)
    viewer.add_layer(layer)
    viewer.layers.selection = selected


def remove_layer(viewer: Any, layer: Any) -> None:
    """Remove a layer if the viewer has it. Use `put_away` for labels."""
    if layer is not None and layer in viewer.layers:
        viewer.layers.remove(layer)


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
    layer = _spare(viewer, kind, multiscale, np.ndim(data[0] if multiscale else data))
    if layer is None:
        layer = Labels(data, name=name, multiscale=multiscale, **options)
        viewer.add_layer(layer)
    else:
        _reuse(viewer, layer, data, name, options)
    if helper:
        viewer.layers.selection = selected
    return layer


def _spare(viewer: Any, kind: str, multiscale: bool, ndim: int) -> Labels | None:
    for layer in viewer.layers:
        fits = isinstance(layer, Labels) and layer.multiscale == multiscale and layer.ndim == ndim
        if fits and layer.metadata.get(SPARE) == kind:
            return layer
    return None


def _reuse(viewer: Any, layer: Labels, data: Any, name: str, options: dict[str, Any]) -> None:
    fill(layer, data)
    layer.metadata = {}
    for key, value in ({"visible": True} | options).items():
        setattr(layer, key, value)
    layer.name = name
    viewer.layers.move(viewer.layers.index(layer), len(viewer.layers))
    viewer.layers.selection.active = layer


def fill(layer: Labels, data: Any) -> None:
    """Replace the data of a layer. Axes and number of scales (one or several) must be the same."""
    # napari would take a list of one level for a plain array.
    layer.data = type(layer.data)(data) if layer.multiscale else data


def put_away(viewer: Any, layer: Labels | None, kind: str) -> None:
    """Hide and empty a labels layer, if the viewer has it, so that `show_labels` can reuse it."""
    if layer is None or layer not in viewer.layers or SPARE in layer.metadata:
        return
    layer.visible = False
    empty = np.zeros((1,) * layer.ndim, np.uint8)
    fill(layer, [empty] if layer.multiscale else empty)
    layer.metadata = {SPARE: kind}
    layer.name = f"{layer.name} (empty)"
    viewer.layers.selection.discard(layer)
