"""Image section of the dock: layer, axes, level, channels and voxel size."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import ComboBox
from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox

from napari_blockbuster.images import ImageSource
from napari_blockbuster.widgets.controls import Note, Section, button, times
from napari_blockbuster.widgets.layers.layer_watch import LayerWatch
from napari_blockbuster.widgets.layers.of_image import layer_images
from napari_blockbuster.widgets.layers.placement import is_turned, place_of_layer
from napari_blockbuster.widgets.layers.viewer_layers import is_image
from napari_blockbuster.widgets.runner import in_thread
from napari_blockbuster.widgets.texts import voxels_name

from .channels_field import ChannelsField
from .image_facts import facts, same_size
from .spacing_field import SpacingField

__all__ = ["AXES", "ImageSection"]

NO_IMAGE = "Open an image first: drag a file into the viewer, or try the plugin on a sample."
AXES = {1: ["x"], 2: ["yx"], 3: ["zyx", "tyx", "cyx"], 4: ["tzyx", "czyx", "ctyx"], 5: ["ctzyx"]}
COLORS = ("red", "green", "blue", "alpha")
MOVES = ("scale", "translate", "rotate", "shear", "affine", "units")
"""Events of a layer that change its place."""


class ImageSection(Section):
    """Chooses an image. It is opened in a thread whenever a field changes.

    `changed` is emitted when `source` changes. It is None while there is no image.
    """

    changed = Signal()
    sample_wanted = Signal()
    """Open the sample image."""

    def __init__(self, viewer: Any) -> None:
        super().__init__("Image")
        self._viewer = viewer
        self.source: ImageSource | None = None
        self._pixels: ImageSource | None = None
        self._turn = 0
        self._watch = LayerWatch(self, MOVES, self._layer_changed)
        self._watch.timeout.connect(self._place)
        self._add_fields()
        viewer.layers.events.inserted.connect(self._update)
        viewer.layers.events.removed.connect(self._update)
        viewer.layers.events.reordered.connect(self._update)
        self._layer_changed()
        self._update()

    def _add_fields(self) -> None:
        self.choice = ComboBox(name="image", choices=self._images, nullable=True)
        self.row("Image", self.choice.native, "Image layer to segment.")
        self.axes = QComboBox()
        self.row("Axes", self.axes, "Axes of the layer: t (time), c (channel), z, y, x (space).")
        self.level = QComboBox()
        self.row("Level", self.level, "Resolution level. Level 0 is the full resolution.")
        self.channel = ChannelsField()
        self.row("Channels", self.channel, "Channels to segment: those of the layer, or layers of the same shape.")
        self.form.addRow(self.channel.note)
        self.spacing = SpacingField()
        self.row("Voxel size", self.spacing, "Size at full resolution. Anisotropy and lengths follow from it.")
        self.note = Note()
        self.form.addRow(self.note)
        self.sample = button(
            "Open the sample", "Open a small 3D image of nuclei, as in File → Open Sample.", self.sample_wanted.emit
        )
        self.form.addRow(self.sample)
        self.choice.changed.connect(self._layer_changed)
        self.axes.currentTextChanged.connect(lambda *_: self._axes_changed())
        self.level.currentIndexChanged.connect(lambda *_: self._open())
        self.channel.changed.connect(self._channels_chosen)
        self.spacing.changed.connect(self._place)

    @property
    def layer(self) -> Image | None:
        """Chosen layer."""
        found: Image | None = self.choice.value
        return found

    @property
    def offers_channels(self) -> bool:
        """Whether the user must choose a channel of the layer."""
        return self.channel.count() > 1 and not self.channel.layers and self.layer is not None and not self.layer.rgb

    def place(self, ndim: int) -> dict[str, Any]:
        """Return the place of the chosen level, for layers with `ndim` axes."""
        assert self.layer is not None
        return place_of_layer(self.layer, ndim, max(self.level.currentIndex(), 0))

    def suggest_channels(self, least: int, most: int) -> None:
        """Check as many channels of a color image as a model takes, unless the user has chosen."""
        if self.layer is not None and self.layer.rgb:
            number = 3 if least <= 3 <= most else 1
            if self.channel.suggest(range(number)):
                self._open()

    # ----------------------------------------------------------------------------------------------- choices of layers
    def _images(self, *_: Any) -> list[Image]:
        return [layer for layer in self._viewer.layers if is_image(layer)]

    def _update(self, event: Any = None) -> None:
        before = self.layer
        self.choice.reset_choices()
        if self.layer is None and (images := self._images()):
            self.choice.value = images[-1]
        if self.layer != before:
            self._layer_changed()
        elif self.layer is None:
            self._show_no_image()
        else:
            self._list_channels(keep=True)

    def _layer_changed(self, *_: Any) -> None:
        layer = self.layer
        self._watch.watch(layer)
        for widget in (self.axes, self.level):
            widget.blockSignals(True)
        self.axes.clear()
        self.level.clear()
        self.spacing.forget()
        if layer is not None:
            usual = layer_images.usual_axes(layer)
            shapes = layer_images.level_shapes(layer)
            others = [] if layer.rgb else AXES.get(len(shapes[0]), [])
            self.axes.addItems(list(dict.fromkeys([usual, *others])))
            self.level.addItems([f"{k}: {times(shape)}" for k, shape in enumerate(shapes)])
        for widget in (self.axes, self.level):
            widget.blockSignals(False)
        self._axes_changed()

    def _axes_changed(self) -> None:
        self._list_channels(keep=False)
        for widget in (self.axes, self.level):
            self.form.setRowVisible(widget, widget.count() > 1)
        self._open()

    def _list_channels(self, keep: bool) -> None:
        layer, axes = self.layer, self.axes.currentText()
        names: list[str] = []
        self.channel.layers = []
        if layer is not None and "c" in axes:
            n = layer_images.level_shapes(layer)[0][axes.index("c")]
            names = [f"{i}: {COLORS[i]}" if layer.rgb and i < len(COLORS) else str(i) for i in range(n)]
        elif layer is not None:
            self.channel.layers = same_size(layer, self._images())
            names = [each.name for each in self.channel.layers]
        before = self.channel.value()
        self.channel.set_names(names, keep)
        self.form.setRowVisible(self.channel, len(names) > 1)
        if keep and self.source is not None and self.channel.value() != before:
            # A layer that was one of the channels is gone.
            self._open()

    def _channels_chosen(self) -> None:
        chosen = [self.channel.layers[number] for number in self.channel.value() if self.channel.layers]
        if len(chosen) == 1 and chosen[0] is not self.layer:
            self.choice.value = chosen[0]
        else:
            self._open()

    # ------------------------------------------------------------------------------------------------------- opening
    def _open(self) -> None:
        layer, axes = self.layer, self.axes.currentText()
        self._turn += 1
        turn = self._turn
        self.source = self._pixels = None
        self.changed.emit()
        for row in (self.choice.native, self.spacing):
            self.form.setRowVisible(row, layer is not None)
        self.form.setRowVisible(self.sample, layer is None)
        if layer is None:
            self._show_no_image()
            return
        level, numbers = max(self.level.currentIndex(), 0), self.channel.value()
        if not numbers:
            self._fail("Check a channel.")
            return
        channel: int | list[int] | None = None
        others: list[Image] = []
        if "c" in axes:
            channel = numbers[0] if len(numbers) == 1 else numbers
        else:
            layer, *others = [self.channel.layers[number] for number in numbers]
        self.note.say("Opening…")
        self.say_brief(f"Opening {layer.name}…")

        def opened(pixels: ImageSource) -> None:
            if turn == self._turn:
                self._pixels = pixels
                self._place()

        def failed(error: Exception) -> None:
            if turn == self._turn:
                self._fail(str(error))

        in_thread(lambda: layer_images.opened(layer, axes, level, channel, others), opened, failed, owner=self)

    def _place(self) -> None:
        """Give the image the place and the voxel size that count now."""
        layer, pixels = self.layer, self._pixels
        if layer is None or pixels is None or layer not in self._viewer.layers:
            return
        level = max(self.level.currentIndex(), 0)
        axes = pixels.axes[pixels.separate_axes :]
        self.spacing.set_axes(axes)
        name = f"{voxels_name(len(axes)).capitalize()} size"
        self.form.labelForField(self.spacing).setText(name)
        self.spacing.setAccessibleName(name)
        try:
            source = layer_images.placed(pixels, layer, level, self.spacing.typed)
        except ValueError as error:
            self.source = None
            self._fail(str(error))
        else:
            if self.source is not None and self.source.describe() == source.describe():
                return
            self.source = source
            self._describe(source, level)
        self.changed.emit()

    def _show_no_image(self) -> None:
        self.note.say(NO_IMAGE)
        self.say_brief("none yet")

    def _fail(self, message: str) -> None:
        self.note.say(message, problem=True)
        self.say_brief(message, problem=True)

    def _describe(self, source: ImageSource, level: int) -> None:
        factors = layer_images.level_factors(source, self.layer)
        sizes = layer_images.micrometers(source)
        known = any(source.units[source.separate_axes :]) or set(source.spacing) != {1.0}
        self.spacing.show_sizes([s / f for s, f in zip(sizes, factors, strict=True)] if known else [None] * len(sizes))
        self.note.say(facts(source, known, is_turned(self.place(source.ndim))))
        self._say_brief(known)

    def _say_brief(self, known: bool) -> None:
        """Describe the image on one line: layer, channels, level, voxel size."""
        assert self.layer is not None
        parts = [self.layer.name]
        if self.channel.count() > 1 and not self.channel.layers:
            numbers = self.channel.value()
            parts.append(f"channel{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}")
        elif len(self.channel.value()) > 1:
            parts = [" + ".join(self.channel.layers[number].name for number in self.channel.value())]
        if self.level.currentIndex() > 0:
            parts.append(f"level {self.level.currentIndex()}")
        sizes = [spin.value() for spin in self.spacing.spins.values()]
        if known and all(sizes):
            parts.append(f"{times([float(f'{size:.3g}') for size in sizes])} µm")
        self.say_brief(", ".join(parts))
