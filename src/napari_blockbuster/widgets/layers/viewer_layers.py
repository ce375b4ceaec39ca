"""Labels layers that are used again: new data in an old layer, in place of a new layer for the old one.

Removing a labels layer and then painting the canvas crashes the process with Mesa's software renderer (napari 0.9,
vispy 0.17). A layer that nothing needs is hidden and emptied; the next one of its kind takes it over.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels

__all__ = ["fill", "put_away", "show_labels"]

SPARE = "blockbuster spare"
"""Where the metadata of a layer that was put away say of which kind it is."""


def show_labels(
    viewer: Any, kind: str, data: Any, name: str, *, helper: bool = False, multiscale: bool = False, **options: Any
) -> Labels:
    """Show labels on top of all layers, in a layer that was put away if there is one.

    Parameters
    ----------
    viewer : napari.Viewer
    kind : str
        Layers of one kind take each other's place, and keep colors and contours that the user has set.
    data : array_like, or a list of them
        As for `napari.layers.Labels`.
    name : str
    helper : bool, default False
        Leave the selection of layers as it is.
    multiscale : bool, default False
    **options
        Attributes of the layer: its scale, say.

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
        _use(viewer, layer, data, name, options)
    if helper:
        viewer.layers.selection = selected
    return layer


def _spare(viewer: Any, kind: str, multiscale: bool, ndim: int) -> Labels | None:
    for layer in viewer.layers:
        fits = isinstance(layer, Labels) and layer.multiscale == multiscale and layer.ndim == ndim
        if fits and layer.metadata.get(SPARE) == kind:
            return layer
    return None


def _use(viewer: Any, layer: Labels, data: Any, name: str, options: dict[str, Any]) -> None:
    fill(layer, data)
    layer.metadata = {}
    for key, value in ({"visible": True} | options).items():
        setattr(layer, key, value)
    layer.name = name
    viewer.layers.move(viewer.layers.index(layer), len(viewer.layers))
    viewer.layers.selection.active = layer


def fill(layer: Labels, data: Any) -> None:
    """Put other data of as many axes and as many scales (one, or several) into a layer."""
    # napari would take a list of one level for a plain array.
    layer.data = type(layer.data)(data) if layer.multiscale else data


def put_away(viewer: Any, layer: Labels | None, kind: str) -> None:
    """Hide a layer that is not needed now, and let go of its data; nothing if it is not there."""
    if layer is None or layer not in viewer.layers or SPARE in layer.metadata:
        return
    layer.visible = False
    empty = np.zeros((1,) * layer.ndim, np.uint8)
    fill(layer, [empty] if layer.multiscale else empty)
    layer.metadata = {SPARE: kind}
    layer.name = f"{layer.name} (empty)"
    viewer.layers.selection.discard(layer)
