"""Watch one layer at a time for edits and moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from napari.layers import Layer
from qtpy.QtCore import QObject, QTimer

__all__ = ["LayerWatch"]


class LayerWatch(QTimer):
    """Runs out shortly after the last of many events of a layer, such as those of a slider or a brush.

    Parameters
    ----------
    parent : QObject
    names : iterable of str
        Names of events; those that a layer does not have are skipped.
    replaced : callable, optional
        Called at once when other data are put into the layer.
    """

    def __init__(self, parent: QObject, names: Iterable[str], replaced: Callable[..., None] | None = None) -> None:
        super().__init__(parent)
        self.setSingleShot(True)
        self.setInterval(150)
        self._names, self._replaced = tuple(names), replaced
        self._layer: Layer | None = None

    def watch(self, layer: Layer | None) -> None:
        """Watch this layer instead of the present one."""
        if layer is self._layer:
            return
        self._connect(False)
        self._layer = layer
        self._connect(True)

    def _connect(self, on: bool) -> None:
        if self._layer is None:
            return
        calls = [(name, self._start) for name in self._names]
        if self._replaced is not None:
            calls.append(("data", self._replaced))
        for name, call in calls:
            emitter = getattr(self._layer.events, name, None)
            if emitter is not None:
                (emitter.connect if on else emitter.disconnect)(call)

    def _start(self, event: Any = None) -> None:
        self.start()
