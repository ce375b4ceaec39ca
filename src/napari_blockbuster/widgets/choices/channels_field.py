"""Field that chooses one channel of an image, or several in the order in which a model gets them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem, QStyle, QStyleOptionViewItem

from napari_blockbuster.widgets.controls import Note

__all__ = ["ChannelsField"]

ROWS = 4
"""Rows that are visible at once."""
TIP = (
    "Click a channel to segment it. Check several for a model that takes several. "
    "The model gets them from top to bottom. Drag a row to move it."
)


class ChannelsField(QListWidget):
    """List of channels with checkboxes. A click on a name checks only that channel.

    Until the user chooses, `suggest` decides which channels are checked.

    Attributes
    ----------
    layers : list of napari.layers.Image
        Layers that are the channels; empty for the channels of one layer. Set by the owner.
    note : Note
        Hint below the field.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Channels")
        self.setDragDropMode(QAbstractItemView.InternalMove)
        self.setSelectionMode(QAbstractItemView.SingleSelection)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        self.setUniformItemSizes(True)
        self.layers: list[Any] = []
        self.note = Note()
        self._is_chosen = False
        self._names: list[str] = []
        self._before: list[int] = []
        self.itemChanged.connect(lambda *_: self._changed_by_user())
        self.model().rowsMoved.connect(lambda *_: self._changed_by_user())

    def set_names(self, names: Sequence[str], keep: bool = False) -> None:
        """List channels by name; nothing happens if the names are the same.

        Parameters
        ----------
        names : sequence of str
        keep : bool
            Keep the choice of the user, as far as the names are still there.
        """
        if list(names) == self._names and keep:
            return
        wanted = [self._names[i] for i in self._before] if keep and self._is_chosen else []
        self._names = list(names)
        self.blockSignals(True)
        self.clear()
        for number, name in enumerate(names):
            item = QListWidgetItem(name)
            item.setData(Qt.UserRole, number)
            item.setToolTip(TIP)
            item.setFlags(Qt.ItemIsEnabled | Qt.ItemIsSelectable | Qt.ItemIsUserCheckable | Qt.ItemIsDragEnabled)
            item.setCheckState(Qt.Unchecked)
            self.addItem(item)
        self.blockSignals(False)
        rows = max(1, min(len(names), ROWS))
        self.setFixedHeight(rows * max(self.sizeHintForRow(0), 16) + 2 * self.frameWidth() + 2)
        found = [self._names.index(name) for name in wanted if name in self._names]
        self._is_chosen = bool(found)
        self._check(found or [0][: self.count()])

    def suggest(self, numbers: Sequence[int]) -> bool:
        """Check these channels unless the user has chosen; returns whether that changed anything."""
        wanted = [number for number in numbers if number < self.count()]
        if self._is_chosen or not wanted or wanted == self.value():
            return False
        self._check(wanted)
        return True

    def value(self) -> list[int]:
        """Return the numbers of the checked channels, from top to bottom."""
        items = [self.item(row) for row in range(self.count())]
        return [item.data(Qt.UserRole) for item in items if item.checkState() == Qt.Checked]

    def setValue(self, numbers: int | Sequence[int]) -> None:
        """Choose channels as a user would."""
        wanted = [numbers] if isinstance(numbers, int) else list(numbers)
        self._is_chosen = True
        if wanted != self.value():
            self._check(wanted)
            self.changed.emit()

    def _check(self, numbers: Sequence[int]) -> None:
        """Check these channels, and bring them into this order if they have another."""
        self.blockSignals(True)
        items = {self.item(row).data(Qt.UserRole): self.item(row) for row in range(self.count())}
        for number, item in items.items():
            item.setCheckState(Qt.Checked if number in numbers else Qt.Unchecked)
        if self.value() != list(numbers):
            for place, number in enumerate(numbers):
                row = self.row(items[number])
                self.insertItem(place, self.takeItem(row))
        self.blockSignals(False)
        self._before = self.value()

    def _changed_by_user(self) -> None:
        if self.value() == self._before:
            return
        self._before = self.value()
        self._is_chosen = True
        self.changed.emit()

    def mouseReleaseEvent(self, event: Any) -> None:
        """Check only the channel whose name is clicked."""
        item = self.itemAt(event.pos())
        on_box = item is not None and self._box_of(item).contains(event.pos())
        super().mouseReleaseEvent(event)
        if item is not None and not on_box and event.button() == Qt.LeftButton and self.row(item) == self.currentRow():
            self.setValue(item.data(Qt.UserRole))

    def _box_of(self, item: QListWidgetItem) -> Any:
        option = QStyleOptionViewItem()
        self.initViewItemOption(option)
        option.rect = self.visualItemRect(item)
        option.features |= QStyleOptionViewItem.HasCheckIndicator
        return self.style().subElementRect(QStyle.SE_ItemViewItemCheckIndicator, option, self)
