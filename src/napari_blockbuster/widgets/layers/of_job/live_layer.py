"""Labels layer of a job: the live labels while it runs, the written labels afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.layers import Labels

from napari_blockbuster.output.label_image import labels_info, open_labels
from napari_blockbuster.widgets.layers.viewer_layers import fill, put_away, show_labels

from .live import LiveLabels

__all__ = ["LiveLayer"]

LIVE = "live labels"
"""Kind of the labels layer."""
RESULT = "blockbuster"
"""Key in the layer's metadata for the path of the written labels that it shows."""


class LiveLayer:
    """Layer that shows labels of a job.

    Attributes
    ----------
    layer : napari.layers.Labels or None
        None after the user removed it.
    """

    def __init__(self, viewer: Any, live: LiveLabels, place: dict[str, Any], name: str) -> None:
        self._viewer, self.live, self._place, self._name = viewer, live, place, name
        self.layer: Labels | None = None
        self.show_live()

    def show_live(self) -> bool:
        """Show the live labels, if the layer is missing or shows written labels; returns whether it changed."""
        if self.layer is None:
            live = self.live
            self.layer = show_labels(
                self._viewer, LIVE, self._data, self._name, multiscale=live.multiscale, opacity=0.6, **self._place
            )
        elif RESULT in self.layer.metadata:
            fill(self.layer, self._data)
            self.layer.metadata = {}
        else:
            return False
        return True

    @property
    def _data(self) -> Any:
        return self.live.levels if self.live.multiscale else self.live.levels[0]

    def show_result(self, path: Path) -> None:
        """Show the written labels, read lazily. Colors and place of the layer stay."""
        layer = self.layer
        if layer is None:
            return
        n_levels = len(labels_info(path)["shapes"]) if layer.multiscale else 1
        levels = [open_labels(path, level) for level in range(n_levels)]
        fill(layer, levels if layer.multiscale else levels[0])
        layer.metadata = {RESULT: str(path)}

    def close(self) -> None:
        """Put the layer away."""
        put_away(self._viewer, self.layer, LIVE)
