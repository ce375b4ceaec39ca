"""Reopen a closed dock with its run, and a job with its image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from dock_actions import click, set_up, use_function

from napari_blockbuster import Job
from napari_blockbuster.widgets.menu.commands import show_segment_widget


def slow_run(widget: Any, output: Path, source: str, qtbot: Any, until: Any) -> None:
    use_function(widget, source)
    set_up(widget, output, (64, 64), (16, 16))
    click(qtbot, widget.running.main)
    until(lambda: widget.control.progress.done >= 2)


def test_a_run_whose_dock_was_closed_is_in_the_dock_that_is_opened_next(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, write_function: Any
) -> None:
    viewer, widget = open_dock(pixels, show=True, name="blobs", own_cluster=True)
    slow_run(
        widget,
        tmp_path / "gui.ome.zarr",
        write_function("time.sleep(0.3)\nreturn ndimage.label(tile > 800)[0]"),
        qtbot,
        until,
    )
    widget.parent().destroyOnClose()
    qtbot.wait(300)
    assert widget.parent() is None
    before = widget.control.progress.done
    until(lambda: widget.control.progress.done > before)

    assert show_segment_widget(viewer) is widget
    until(widget.isVisible)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert len(widget.control.job.staged()) == 20


def test_a_viewer_that_closes_ends_the_run_of_a_closed_dock(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, write_function: Any
) -> None:
    viewer, widget = open_dock(pixels, show=True, name="blobs", own_cluster=True)
    slow_run(
        widget,
        tmp_path / "gui.ome.zarr",
        write_function("time.sleep(0.5)\nreturn ndimage.label(tile > 800)[0]"),
        qtbot,
        until,
    )
    job = widget.control.job
    widget.parent().destroyOnClose()
    qtbot.wait(100)
    viewer.close()
    until(lambda: not (job.folder / "lock.json").exists(), 10)
    assert len(job.staged()) < 20


def test_a_job_brings_its_image_into_the_form(open_dock: Any, until: Any, pixels: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "blobs.tif", pixels, tile=(64, 64))
    job = Job.create(tmp_path / "blobs.tif", "threshold", tmp_path / "out.ome.zarr", tile_shape=70, halo=10)
    for _ in job.stage(tiles=[0, 1]):
        pass
    viewer, widget = open_dock(np.zeros((90, 90), np.uint16), name="another")
    for _ in range(2):
        widget.open_job(job.folder)
        until(lambda: widget.control.state == "paused" and widget.image.source is not None)
        until(lambda: widget.image.source.local_path == tmp_path / "blobs.tif")
        plan = widget.plan()
        # Workers read the file, and the form shows the settings of the job.
        assert plan.source.describe() == job.source.describe()
        assert plan.grid() == job.grid
        assert plan.output == str(tmp_path / "out.ome.zarr")
        assert str(tmp_path / "blobs.tif") in plan.script()
        assert [layer.name for layer in viewer.layers].count("blobs.tif") == 1
    widget.image.choice.value = viewer.layers["another"]
    until(lambda: widget.image.source is not None and widget.image.source.local_path is None)
    assert widget.running.output.text() != str(tmp_path / "out.ome.zarr")
