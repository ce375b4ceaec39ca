"""Image section of the dock: layer, axes, level and channel."""

from __future__ import annotations

import math
from typing import Any

from magicgui.widgets import ComboBox
from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSpinBox

from napari_blockbuster.images import ImageSource
from napari_blockbuster.widgets.controls import Note, Section, bytes_text, times
from napari_blockbuster.widgets.layers import layer_images
from napari_blockbuster.widgets.layers.placement import place_of_layer
from napari_blockbuster.widgets.runner import in_thread
from napari_blockbuster.widgets.texts import voxels_name

__all__ = ["ImageSection"]

NO_IMAGE = "Open an image first: drag a file into the viewer, or use File → Open Sample → Blockbuster."
AXES = {1: ["x"], 2: ["yx"], 3: ["zyx", "tyx", "cyx"], 4: ["tzyx", "czyx", "ctyx"], 5: ["ctzyx"]}


class ImageSection(Section):
    """Chooses an image. It is opened in a thread whenever a field changes.

    `changed` is emitted when `source` changes. It is None while there is no image.
    """

    changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__("1  Image")
        self._viewer = viewer
        self.source: ImageSource | None = None
        self._turn = 0
        self._watched: Image | None = None
        self.choice = ComboBox(name="image", choices=self._images, nullable=True)
        self.row("Image", self.choice.native, "Image layer to segment.")
        self.axes = QComboBox()
        self.row("Axes", self.axes, "Axes of the layer: t (time), c (channel), z, y, x (space).")
        self.level = QComboBox()
        self.row("Level", self.level, "Resolution level. Level 0 is the full resolution.")
        self.channel = QSpinBox()
        self.row("Channel", self.channel, "Channel to segment, counted from 0.")
        self.note = Note()
        self.form.addRow(self.note)
        self.choice.changed.connect(self._layer_changed)
        self.axes.currentTextChanged.connect(lambda *_: self._axes_changed())
        self.level.currentIndexChanged.connect(lambda *_: self._open())
        self.channel.valueChanged.connect(lambda *_: self._open())
        viewer.layers.events.inserted.connect(self._update)
        viewer.layers.events.removed.connect(self._update)
        viewer.layers.events.reordered.connect(self._update)
        self._layer_changed()
        self._update()

    @property
    def layer(self) -> Image | None:
        """Chosen layer."""
        found: Image | None = self.choice.value
        return found

    def place(self, ndim: int) -> dict[str, Any]:
        """Return the place of the chosen level, for layers with `ndim` axes."""
        assert self.layer is not None
        return place_of_layer(self.layer, ndim, max(self.level.currentIndex(), 0))

    def _images(self, *_: Any) -> list[Image]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def _update(self, event: Any = None) -> None:
        before = self.layer
        self.choice.reset_choices()
        if self.layer is None and (images := self._images()):
            self.choice.value = images[-1]
        if self.layer != before:
            self._layer_changed()
        elif self.layer is None:
            self.note.say(NO_IMAGE)

    def _layer_changed(self, *_: Any) -> None:
        layer = self.layer
        self._watch(layer)
        for widget in (self.axes, self.level, self.channel):
            widget.blockSignals(True)
        self.axes.clear()
        self.level.clear()
        if layer is not None:
            usual = layer_images.usual_axes(layer)
            shapes = layer_images.level_shapes(layer)
            self.axes.addItems(list(dict.fromkeys([usual, *AXES.get(len(shapes[0]), [])])))
            self.level.addItems([f"{k}: {times(shape)}" for k, shape in enumerate(shapes)])
        for widget in (self.axes, self.level, self.channel):
            widget.blockSignals(False)
        self._axes_changed()

    def _watch(self, layer: Image | None) -> None:
        """Open the image again when the data of its layer are replaced."""
        if self._watched is not layer:
            if self._watched is not None:
                self._watched.events.data.disconnect(self._layer_changed)
            if layer is not None:
                layer.events.data.connect(self._layer_changed)
            self._watched = layer

    def _axes_changed(self) -> None:
        layer, axes = self.layer, self.axes.currentText()
        channels = layer_images.level_shapes(layer)[0][axes.index("c")] if layer is not None and "c" in axes else 1
        self.channel.blockSignals(True)
        self.channel.setMaximum(max(channels - 1, 0))
        self.channel.blockSignals(False)
        for widget, shown in (
            (self.axes, self.axes.count() > 1),
            (self.level, self.level.count() > 1),
            (self.channel, "c" in axes),
        ):
            self.form.setRowVisible(widget, shown)
        self._open()

    def _open(self) -> None:
        layer, axes = self.layer, self.axes.currentText()
        self._turn += 1
        turn = self._turn
        self.source = None
        self.changed.emit()
        if layer is None:
            self.note.say(NO_IMAGE)
            return
        level = max(self.level.currentIndex(), 0)
        channel = self.channel.value() if "c" in axes else None
        self.note.say("Opening…")

        def opened(source: ImageSource) -> None:
            if turn == self._turn:
                self.source = source
                size = bytes_text(source.dtype.itemsize * math.prod(source.shape))
                self.note.say(f"{times(source.shape)} {source.dtype}, {size}{_voxel(source)}")
                self.changed.emit()

        def failed(error: Exception) -> None:
            if turn == self._turn:
                self.note.say(str(error), problem=True)

        in_thread(lambda: layer_images.image_of(layer, axes, level, channel), opened, failed, owner=self)


def _voxel(source: ImageSource) -> str:
    unit = layer_images.unit_of(source)
    name = voxels_name(len(source.spacing)).capitalize()
    return "" if unit is None else f". {name} size: {times([round(s, 4) for s in source.spacing])} {unit}"
