"""The dock on a small screen: what happened is visible, and one set of labels is shown at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from dock_actions import click, set_up
from front_door import type_number
from napari.layers import Image

from napari_blockbuster import Job
from napari_blockbuster.widgets.layers.of_image import layer_images


def on_screen(*widgets: Any) -> bool:
    """Whether widgets are not scrolled away."""
    return all(widget.isVisible() and widget.visibleRegion().boundingRect().height() > 8 for widget in widgets)


def labels_shown(viewer: Any) -> list[str]:
    return [layer.name for layer in viewer.layers if layer._type_string == "labels" and layer.visible]


def test_a_run_on_a_small_screen(open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path) -> None:
    viewer, widget = open_dock(pixels, show=True, name="blobs")
    window = viewer.window._qt_window
    window.resize(1366, 768)
    running, merging, control = widget.running, widget.merging, widget.control
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (24, 24), diameter=14)
    # A halo that does not fit is named by its axis, and nothing can be run with it.
    type_number(widget.tiles.tile.spins["y"], 10)
    assert "along y" in widget.tiles.note.plain
    assert "axis" not in widget.tiles.note.plain
    assert not running.main.isEnabled()
    type_number(widget.tiles.tile.spins["y"], 64)
    assert running.main.isEnabled()

    click(qtbot, widget.preview.tile)
    until(lambda: "objects" in widget.preview.report.plain)
    until(lambda: on_screen(widget.preview.report, widget.preview.advice))
    click(qtbot, running.main)
    until(lambda: control.state == "staging" and on_screen(running.bar))
    until(lambda: control.state == "staged" and control.merged is not None)
    assert "Not written yet." in merging.counts.plain
    until(lambda: on_screen(merging.counts, merging.write))
    _look_at_the_inspector(widget, until, qtbot, window)

    # An output that exists is refused before the open run is closed.
    job = control.job
    (tmp_path / "taken.ome.zarr").mkdir()
    running.output.setText(str(tmp_path / "taken.ome.zarr"))
    assert "taken.ome.zarr exists already" in running.output.note.plain
    assert not running.main.isEnabled()
    running.footer.run_wanted.emit()
    assert control.job is job
    assert control.state == "staged"
    running.output.setText(str(tmp_path / "gui.ome.zarr"))
    assert running.main.isEnabled()

    # A preview hides the labels of the run, and the next merge hides the preview.
    click(qtbot, widget.preview.tile)
    until(lambda: "Preview" in labels_shown(viewer))
    assert "blobs labels" not in labels_shown(viewer)
    merging.rule.slider.setValue(30)
    until(lambda: "blobs labels" in labels_shown(viewer))
    assert not any(name.startswith("Preview") for name in labels_shown(viewer))
    until(lambda: control.state == "staged" and control.merged.min_iou == 0.3)

    click(qtbot, merging.write)
    until(lambda: control.state == "written")
    assert "Written." in merging.counts.plain
    merging.rule.slider.setValue(60)
    until(lambda: "Changed since the labels were written." in merging.counts.plain)
    until(lambda: control.state == "written")
    # The labels that were written stay, hidden under those of the next run.
    written = viewer.layers["blobs labels"]
    running.output.setText(str(tmp_path / "next.ome.zarr"))
    click(qtbot, running.main)
    until(lambda: control.state == "staged" and control.merged is not None)
    assert not written.visible
    assert written in viewer.layers
    assert sum(name.startswith("blobs labels") for name in labels_shown(viewer)) == 1


def _look_at_the_inspector(widget: Any, until: Any, qtbot: Any, window: Any) -> None:
    click(qtbot, widget.merging.inspect)
    until(widget.inspector.isVisible)
    qtbot.wait(300)
    assert window.height() <= 768
    panel = widget.inspector.panel
    assert on_screen(panel.decisions.join, panel.decisions.cut)
    widget.inspector.parent().hide()


def test_a_reopened_job_keeps_its_settings_in_the_form(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path
) -> None:
    place = {"scale": (0.5, 0.25), "translate": (3, 4), "units": ("um", "um")}
    source = layer_images.image_of(Image(pixels, **place), "yx", 0, None)
    job = Job.create(source, "threshold", tmp_path / "out.ome.zarr", tile_shape=70, halo=10)
    for _ in job.stage(tiles=[0, 1]):
        pass
    viewer, widget = open_dock()
    widget.open_job(job.folder)
    until(lambda: widget.control.state == "paused")
    # The labels lie where the image was, so that the image fits them when it comes.
    live = viewer.layers["out labels"]
    np.testing.assert_allclose(live.scale, place["scale"])
    np.testing.assert_allclose(live.translate, place["translate"])
    viewer.add_image(pixels, name="blobs", **place)
    assert live.units == viewer.layers["blobs"].units
    until(lambda: widget.image.source is not None and widget.running.layer.count() == 1)
    assert not widget.tiles.automatic.isChecked()
    assert widget.plan().grid() == job.grid
    assert widget.running.change_note.plain == ""
    widget.model.settings.set_values({"threshold": 900})
    assert "model settings (threshold automatic → 900)" in widget.running.change_note.plain
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert widget.model.settings.values() == {}
    assert widget.running.change_note.plain == ""
