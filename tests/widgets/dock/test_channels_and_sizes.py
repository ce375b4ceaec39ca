"""Color images, several channels, and the size of a voxel, chosen in the dock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from dock_actions import click, use_function
from front_door import unfold
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from scipy import ndimage

from napari_blockbuster import Job
from napari_blockbuster.images import open_image


def click_channel(field: Any, row: int, box: bool) -> None:
    """Click the checkbox of a channel, or its name."""
    unfold(field)
    rectangle = field.visualItemRect(field.item(row))
    place = field._box_of(field.item(row)).center() if box else QPoint(rectangle.right() - 4, rectangle.center().y())
    QTest.mouseClick(field.viewport(), Qt.LeftButton, pos=place)


def run(widget: Any, qtbot: Any, until: Any, output: Path) -> np.ndarray:
    widget.running.output.setText(str(output))
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    return np.asarray(widget.control.merged.labels)


def test_a_color_layer_is_segmented_with_the_channels_that_are_checked(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, write_function: Callable[[str], str], tmp_path: Path
) -> None:
    green = (pixels / 16).astype(np.uint8)
    colors = np.stack([green[::-1], green, green * 0, green * 0 + 255], -1)
    _, widget = open_dock(colors, show=True, rgb=True, name="section")
    field = widget.image.channel
    assert [field.item(row).text() for row in range(4)] == ["0: red", "1: green", "2: blue", "3: alpha"]
    unfold(field)
    assert field.isVisible()
    assert field.value() == [0]
    use_function(widget, write_function("assert tile.shape[-1] == 3, tile.shape\nreturn tile[..., 1] > 60"))
    assert field.value() == [0, 1, 2]
    until(lambda: widget.image.source is not None and widget.image.source.n_channels == 3)
    widget.tiles.set_values((100, 130), (8, 8))
    labels = run(widget, qtbot, until, tmp_path / "three.ome.zarr")
    np.testing.assert_array_equal(labels > 0, green > 60)
    # A model that takes one channel gets one, until the user chooses more.
    widget.model.choice.setCurrentText("threshold")
    assert field.value() == [0]
    click_channel(field, 1, box=False)
    assert field.value() == [1]
    until(lambda: widget.image.source is not None)
    np.testing.assert_array_equal(widget.image.source.sample_blocks()[0], green)
    click_channel(field, 2, box=True)
    assert field.value() == [1, 2]
    until(lambda: widget.image.source is not None)
    assert "takes one channel at most" in field.note.text()
    assert not widget.preview.tile.isEnabled()
    click_channel(field, 1, box=True)
    click_channel(field, 2, box=True)
    assert "Check a channel" in widget.image.note.text()


def test_layers_of_one_shape_are_channels(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, write_function: Callable[[str], str], tmp_path: Path
) -> None:
    viewer, widget = open_dock(pixels, show=True, name="nuclei", scale=(0.5, 0.5))
    field = widget.image.channel
    assert not field.isVisible()
    viewer.add_image(pixels[::-1].copy(), name="cells", scale=(0.5, 0.5))
    viewer.add_image(pixels[:50], name="other", scale=(0.5, 0.5))
    viewer.add_image(pixels, name="elsewhere", scale=(0.5, 0.5), translate=(3, 0))
    widget.image.choice.value = viewer.layers["nuclei"]
    assert [field.item(row).text() for row in range(field.count())] == ["nuclei", "cells"]
    use_function(widget, write_function("return (tile[..., 0] > 900) & (tile[..., 1] > 300)"))
    click_channel(field, 1, box=True)
    until(lambda: widget.image.source is not None)
    assert widget.image.source.n_channels == 2
    widget.tiles.set_values((100, 130), (8, 8))
    labels = run(widget, qtbot, until, tmp_path / "two.ome.zarr")
    np.testing.assert_array_equal(labels > 0, (pixels > 900) & (pixels[::-1] > 300))
    # The order of the rows is that of the channels.
    field.setValue([1, 0])
    until(lambda: widget.image.source is not None)
    np.testing.assert_array_equal(widget.image.source.sample_blocks()[0][..., 0], pixels[::-1])
    viewer.layers.remove("cells")
    until(lambda: widget.image.source is not None and widget.image.source.n_channels == 1)
    assert not field.isVisible()


def test_layers_of_several_files_are_read_by_workers_and_resumed(
    open_dock: Any, until: Any, pixels: np.ndarray, tmp_path: Path
) -> None:
    for number, data in enumerate((pixels, pixels[::-1])):
        tifffile.imwrite(tmp_path / f"c{number}.tif", data)
    viewer, widget = open_dock()
    for number in range(2):
        viewer.open(tmp_path / f"c{number}.tif", plugin="napari")
    widget.image.choice.value = viewer.layers["c0"]
    widget.image.channel.setValue([0, 1])
    until(lambda: widget.image.source is not None and widget.image.source.n_channels == 2)
    source = widget.image.source
    assert source.shippable
    job = Job.create(source, lambda tile: tile[..., 1] > 900, tmp_path / "out.ome.zarr", tile_shape=100)
    again = Job.open(job.folder).source
    assert again is not None
    np.testing.assert_array_equal(again.sample_blocks()[0], np.stack([pixels, pixels[::-1]], -1))


def test_the_voxel_size_is_shown_edited_and_copied(
    open_dock: Any, until: Any, pixels: np.ndarray, tmp_path: Path
) -> None:
    stack = np.stack([ndimage.shift(pixels, k) for k in range(6)])
    tifffile.imwrite(tmp_path / "stack.tif", stack)
    viewer, widget = open_dock(show=True)
    viewer.open(tmp_path / "stack.tif", plugin="napari")
    until(lambda: widget.image.source is not None)
    field = widget.image.spacing
    assert [spin.text() for spin in field.spins.values()] == ["z ?", "y ?", "x ?"]
    assert "voxel size is unknown" in widget.image.note.plain
    assert widget.tiles.halo.values[0] == 6, "the halo is as long as the stack"
    for axis, size in (("z", 4.5), ("y", 0.5), ("x", 0.5)):
        spin = field.spins[axis]
        spin.setFocus()
        spin.selectAll()
        QTest.keyClicks(spin, str(size))
        QTest.keyClick(spin, Qt.Key_Return)
    # It counts at once: a halo of 40 voxels of the finest axis are 5 planes.
    assert widget.tiles.halo.values == (5, 40, 40)
    assert "unknown" not in widget.image.note.plain
    source = widget.image.source
    assert (source.scale, source.units) == ((4.5, 0.5, 0.5), ("micrometer",) * 3)
    plan = widget.form.plan()
    assert "spacing=[4.5, 0.5, 0.5]" in plan.script()
    assert "--spacing 4.5 0.5 0.5" in plan.command()
    assert "axes" not in plan.script()
    assert source.identity() == open_image(tmp_path / "stack.tif", spacing=(4.5, 0.5, 0.5)).identity()
    # What napari says counts as well, and what is typed counts more.
    viewer.layers[0].scale = (3, 1, 1)
    field.set_typed(None)
    until(lambda: widget.image.source.scale == (3, 1, 1))
    assert [spin.value() for spin in field.spins.values()] == [3, 1, 1]
    assert "has no unit" in widget.image.note.plain
    viewer.layers[0].units = ("um",) * 3
    until(lambda: widget.image.source.units[0] == "micrometer")
    viewer.layers[0].rotate = (10, 0, 0)
    until(lambda: "rotated" in widget.image.note.plain)
