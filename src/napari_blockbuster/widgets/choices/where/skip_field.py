"""Field of the tiles that hold nothing."""

from __future__ import annotations

import threading
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QHBoxLayout, QWidget

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.images.content.emptiness import empty_tiles
from napari_blockbuster.widgets.runner import in_thread

__all__ = ["SkipField"]

NOTHING, ONE_VALUE, BELOW = "No tile", "Tiles of one value", "Tiles not above"


class SkipField(QWidget):
    """Which tiles are skipped because they hold nothing.

    Attributes
    ----------
    empty : list of int or None
        The tiles that were found; None until they are searched.
    """

    changed = Signal()
    searched = Signal()
    """`empty` is known."""
    failed = Signal(str)
    """The search ended with an error."""

    def __init__(self) -> None:
        super().__init__()
        self.empty: list[int] | None = None
        self._canceled: threading.Event | None = None
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.kind = QComboBox()
        self.kind.addItems([NOTHING, ONE_VALUE, BELOW])
        self.below = QDoubleSpinBox()
        self.below.setRange(-1e9, 1e9)
        self.below.setDecimals(3)
        self.below.setKeyboardTracking(False)
        self.below.setToolTip("Tiles without a pixel above this value are skipped, halo included.")
        self.below.hide()
        row.addWidget(self.kind, 1)
        row.addWidget(self.below)
        self.kind.currentIndexChanged.connect(lambda *_: self._edited())
        self.below.valueChanged.connect(lambda *_: self._edited())

    def values(self) -> dict[str, Any]:
        """Return the arguments of `napari_blockbuster.segment`."""
        kind = self.kind.currentText()
        return (
            {"skip_empty": True} if kind == ONE_VALUE else {"skip_below": self.below.value()} if kind == BELOW else {}
        )

    def search(self, source: ImageSource, grid: TileGrid) -> None:
        """Search the tiles that hold nothing in a thread, unless they are known or none are wanted."""
        asked = self.values()
        if not asked or self.empty is not None:
            return
        canceled = self._canceled = threading.Event()
        in_thread(
            lambda: empty_tiles(source, grid, range(len(grid)), asked.get("skip_below"), canceled=canceled),
            lambda found: self._take(found, canceled),
            lambda error: self.failed.emit(str(error)),
            owner=self,
        )

    def _take(self, found: list[int], canceled: threading.Event) -> None:
        if not canceled.is_set():
            self.empty = found
            self.searched.emit()

    def forget(self) -> None:
        """Forget the tiles of another grid or image."""
        if self._canceled is not None:
            self._canceled.set()
        self.empty = None

    def _edited(self) -> None:
        self.below.setVisible(self.kind.currentText() == BELOW)
        self.forget()
        self.changed.emit()
