"""Labels are saved from napari: its own dialog and writers, the dock's button, and a template for a function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from dock_actions import click, set_up
from qtpy.QtWidgets import QFileDialog

from napari_blockbuster.images import open_image
from napari_blockbuster.output.label_image import open_labels
from napari_blockbuster.widgets.choices.function_fields import functions_in
from napari_blockbuster.widgets.layers import viewer_layers


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Answer the next file dialog."""

    def give(path: Path, kind: str = "") -> None:
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *args, **options: (str(path), kind))

    return give


def test_a_result_is_saved_by_napari_and_by_the_dock(
    open_dock: Any, until: Any, qtbot: Any, tmp_path: Path, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two levels, as any image with more than half a million pixels has.
    image = np.zeros((700, 600), np.uint16)
    image[40:80, 40:600] = image[400:650, 20:90] = 2000
    viewer, widget = open_dock(image, name="bars", scale=(0.5, 0.5), units=("um", "um"))
    widget.model.choice.setCurrentText("threshold")
    set_up(widget, tmp_path / "gui.ome.zarr", (350, 300), (8, 8))
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    layer = viewer.layers["bars labels"]
    assert layer.multiscale
    viewer.layers.selection = {layer}

    def saved(name: str, **options: Any) -> np.ndarray:
        assert viewer.layers.save(str(tmp_path / name), selected=True, **options) == [str(tmp_path / name)]
        return tifffile.imread(tmp_path / name)

    expected = widget.control.merged.labels.compute()
    np.testing.assert_array_equal(saved("live.tif"), expected)
    np.testing.assert_array_equal(saved("live.ome.tif"), expected)
    np.testing.assert_allclose(open_image(tmp_path / "live.ome.tif").spacing, (0.5, 0.5))

    click(qtbot, widget.merging.write)
    until(lambda: widget.control.state == "written")
    np.testing.assert_array_equal(saved("written.tif"), expected)
    # napari's dialog, with the writer that it offers first, and with ours.
    answer(tmp_path / "dialog.tif", "napari builtins Write Labels (*.tif)")
    viewer.window._qt_viewer._save_layers_dialog(selected=True)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "dialog.tif"), expected)
    np.testing.assert_array_equal(saved("ours.ome.tif", plugin="napari-blockbuster"), expected)

    answer(tmp_path / "dock.ome.tif")
    click(qtbot, widget.merging.export)
    until((tmp_path / "dock.ome.tif").exists)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "dock.ome.tif"), open_labels(tmp_path / "gui.ome.zarr"))

    # A result that was opened from its file.
    (opened,) = viewer.open(tmp_path / "gui.ome.zarr", plugin="napari-blockbuster")
    viewer.layers.selection = {opened}
    np.testing.assert_array_equal(saved("opened.tif"), expected)
    monkeypatch.setattr(viewer_layers, "memory_limit_bytes", lambda: 1000)
    with pytest.raises(MemoryError, match=r"too much for the memory.*\.ome\.tif"):
        viewer.layers.save(str(tmp_path / "large.tif"), selected=True)


def test_a_function_starts_from_a_template(
    open_dock: Any, until: Any, qtbot: Any, tmp_path: Path, answer: Any, pixels: np.ndarray
) -> None:
    _, widget = open_dock(pixels)
    widget.model.choice.setCurrentText("function")
    form = widget.model.settings
    (new,) = (b for b in form.findChildren(type(widget.running.main)) if b.text() == "New…")
    answer(tmp_path / "mine")
    click(qtbot, new)
    assert functions_in(tmp_path / "mine.py") == ["find_objects"]
    assert form.values()["source"] == f"{tmp_path / 'mine.py'}:find_objects"
    form.set_values({"options": {"level": 800.0}})
    set_up(widget, tmp_path / "gui.ome.zarr", (100, 130), (16, 16))
    click(qtbot, form.code)
    until(lambda: widget.model.model is not None)
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert widget.control.merged.n_objects > 3
