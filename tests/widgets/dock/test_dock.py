"""The dock in a real viewer with a real cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dock_actions import click, set_up, use_function
from helpers import assert_same_objects
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox

from napari_blockbuster import segment
from napari_blockbuster.models import get_model


class _Click:
    """Event for the mouse callbacks of a layer."""

    def __init__(self, position: Any) -> None:
        self.position, self.view_direction, self.dims_displayed = position, None, [0, 1]


def test_pick_preview_run_merge_write_equals_headless(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, widget = open_dock(pixels, name="blobs", scale=(0.5, 0.5), own_cluster=True)
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (24, 24), diameter=14)
    assert "20 tiles" in widget.tiles.note.text()

    click(qtbot, widget.preview.tile)
    until(lambda: "Preview" in viewer.layers)
    assert "objects" in widget.preview.report.text()
    assert "20 tiles" in widget.preview.report.text()

    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    live = viewer.layers["blobs labels"]
    shown = np.asarray(live.data).copy()

    click(qtbot, widget.merging.write)
    until(lambda: widget.control.state == "written")
    written = viewer.layers["blobs labels"]
    assert written is live
    np.testing.assert_array_equal(written.scale, [0.5, 0.5])

    headless = segment(
        pixels,
        get_model("voronoi-otsu", diameter=14),
        tmp_path / "headless.ome.zarr",
        tile_shape=64,
        halo=24,
        progress=False,
    )
    expected = headless.labels.compute()
    assert expected.max() > 50
    first = written.data[0] if written.multiscale else written.data
    np.testing.assert_array_equal(np.asarray(first), expected)
    # The live labels had the same ids before anything was written.
    np.testing.assert_array_equal(shown, expected)

    # Without its tiles the job cannot be merged again. It is closed, and the written labels stay.
    stage = widget.control.job.store.folder
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.Yes)
    click(qtbot, widget.merging.delete)
    until(lambda: widget.control.state == "idle")
    assert not stage.exists()
    assert viewer.layers["blobs labels"] is written
    assert not widget.merging.write.isEnabled()
    widget.merging.rule.slider.setValue(20)
    qtbot.wait(100)
    np.testing.assert_array_equal(np.asarray(first), expected)


def test_pause_and_resume(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, write_function: Any
) -> None:
    calls = tmp_path / "calls"
    source = write_function(
        f"with open({str(calls)!r}, 'a') as log: log.write('x')\ntime.sleep(0.3)\nreturn ndimage.label(tile > 800)[0]"
    )
    _, widget = open_dock(pixels, name="blobs")
    use_function(widget, source)
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (16, 16))
    click(qtbot, widget.running.main)
    until(lambda: widget.control.progress.done >= 3)
    assert widget.running.main.text() == "Pause"
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "paused", 5)
    done = len(widget.control.job.staged())
    assert 3 <= done < 20
    assert widget.running.main.text() == "Resume"

    # A paused run can be merged. Nothing changes on disk.
    widget.merging.rule.choice.setCurrentText("touch")
    until(lambda: widget.control.merged is not None and widget.control.state == "paused")

    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged.rule == "touch")
    assert len(widget.control.job.staged()) == 20
    # Only tiles that were running at the pause may run twice.
    assert 20 <= len(calls.read_text()) <= 20 + 4
    until(lambda: widget.control.state == "staged" and len(widget.control.merged.labels_table.offsets) > 0)
    from scipy import ndimage

    assert_same_objects(widget.control.merged.labels.compute(), ndimage.label(pixels > 800)[0])


def test_a_tile_that_fails_is_listed_and_tried_again(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, write_function: Any
) -> None:
    mended = tmp_path / "mended"
    source = write_function(
        f"if not os.path.exists({str(mended)!r}) and tile.shape == (80, 20):\n"
        "    raise ValueError('no luck with this one')\n"
        "return ndimage.label(tile > 800)[0]"
    )
    viewer, widget = open_dock(pixels, name="blobs")
    use_function(widget, source)
    # Only the tile at the upper right reads 80 x 20 pixels.
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (16, 16))
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert widget.running.failed.count() == 1
    assert "no luck" in widget.running.failed.item(0).text()
    assert "Traceback" in widget.running.failed.item(0).toolTip()
    assert "Failed tiles" in viewer.layers
    assert len(widget.control.job.staged()) == 19

    cross = viewer.layers["Failed tiles"]
    index = int(cross.features["tile"][0])
    for callback in cross.mouse_drag_callbacks:
        callback(cross, _Click(cross.data_to_world(cross.data[0])))
    assert widget.running.failed.currentItem().data(Qt.UserRole) == index
    assert "no luck" in widget.running.problem.text()
    widget.running.failed.setCurrentRow(-1)
    widget.running.failed.setCurrentRow(0)
    assert viewer.scene.camera.center[-1] == pytest.approx(257.5)
    mended.touch()
    told: list[Any] = []
    widget.control.progressed.connect(told.append)
    click(qtbot, widget.running.failed.buttons.layout().itemAt(0).widget())
    until(lambda: widget.control.state == "staged" and len(widget.control.job.staged()) == 20)
    assert (told[-1].done, told[-1].failed) == (20, 0)
    assert all(each.done + each.failed <= each.total for each in told), "a tile that is tried again counts once"
    until(lambda: widget.running.failed.count() == 0)
    assert "Failed tiles" not in viewer.layers


def test_layers_may_be_deleted_while_it_runs(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, write_function: Any
) -> None:
    viewer, widget = open_dock(pixels, name="blobs")
    use_function(widget, write_function("time.sleep(0.1)\nreturn ndimage.label(tile > 800)[0]"))
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (16, 16))
    said: list[str] = []
    widget.control.status.connect(said.append)
    click(qtbot, widget.running.main)
    until(lambda: widget.control.progress.done >= 2)
    viewer.layers.remove(viewer.layers["blobs labels"])
    viewer.layers.remove(viewer.layers["blobs"])
    assert any("was removed" in text for text in said)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert len(widget.control.job.staged()) == 20
    # The merge shows the labels again.
    assert "blobs labels" in viewer.layers


def test_closing_the_viewer_stops_the_run_and_the_job_opens_again(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, write_function: Any
) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "blobs.tif", pixels, tile=(64, 64))
    source = write_function("time.sleep(0.3)\nreturn ndimage.label(tile > 800)[0]")
    viewer, widget = open_dock()
    viewer.open(tmp_path / "blobs.tif", plugin="napari")
    until(lambda: widget.image.source is not None)
    assert widget.image.source.shippable, "workers read the file themselves"
    use_function(widget, source)
    assert widget.running.output.text() == str(tmp_path / "blobs.labels.ome.zarr")
    widget.tiles.set_values((64, 64), (16, 16))
    click(qtbot, widget.running.main)
    until(lambda: widget.control.progress.done >= 3)
    job = widget.control.job
    viewer.close()
    until(lambda: not (job.folder / "lock.json").exists(), 10)
    staged = len(job.staged())
    assert 3 <= staged < 20

    viewer, widget = open_dock()
    viewer.open(job.folder, plugin="napari-blockbuster")
    until(lambda: any(w is not None for w in [_dock_of(viewer).control.job]))
    widget = _dock_of(viewer)
    until(lambda: widget.control.state == "paused")
    assert "blobs.tif" in str(viewer.layers[0].name) or "blobs" in str(viewer.layers[0].name)
    assert widget.tiles.tile.values == (64, 64)
    assert widget.model.choice.currentText() == "function"
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert len(widget.control.job.staged()) == 20


def _dock_of(viewer: Any) -> Any:
    from napari_blockbuster.widgets.menu.commands import show_segment_widget

    return show_segment_widget(viewer)


def test_what_is_wrong_is_said_beside_the_field(open_dock: Any, until: Any, pixels: np.ndarray, tmp_path: Path) -> None:
    viewer, widget = open_dock()
    assert "Open an image first" in widget.image.note.text()
    assert not widget.preview.tile.isEnabled()
    viewer.add_image(np.zeros((4, 2, 40, 50), np.uint8), axis_labels=tuple("zcyx"), name="stack")
    until(lambda: "Split Stack" in widget.image.note.text())
    viewer.add_image(pixels, name="blobs")
    widget.image.choice.value = viewer.layers["blobs"]
    until(lambda: widget.image.source is not None)
    widget.tiles.set_values((64, 64), (100, 16))
    assert "halo" in widget.tiles.note.text()
    assert widget.tiles.note.text().startswith("⚠")
    assert not widget.preview.tile.isEnabled()
    widget.tiles.set_values((64, 64), (16, 16))
    assert widget.preview.tile.isEnabled()
    widget.running.output.setText(str(tmp_path))
    assert "exists already" in widget.running.output.note.text()
    assert not widget.running.main.isEnabled()
    widget.model.settings.set_values({"threshold": "many"})
    assert "threshold" in widget.model.note.text()
    assert not widget.preview.tile.isEnabled()


def test_rows_without_content_are_hidden(open_dock: Any, until: Any, pixels: np.ndarray) -> None:
    viewer, widget = open_dock()
    image, tiles = widget.image, widget.tiles
    fields = [
        (image.axes, image),
        (image.level, image),
        (image.channel, image),
        (tiles.tile, tiles),
        (tiles.halo, tiles),
    ]
    assert not any(field.isVisibleTo(section) for field, section in fields), "there is no image yet"
    viewer.add_image([pixels, pixels[::2, ::2]], name="blobs", multiscale=True)
    until(lambda: image.source is not None)
    assert [field.isVisibleTo(section) for field, section in fields] == [False, True, False, True, True]


def test_a_wrong_image_for_a_job_is_refused_in_the_form(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path
) -> None:
    viewer, widget = open_dock(pixels, name="blobs")
    output = tmp_path / "gui.ome.zarr"
    set_up(widget, output, (64, 64), (16, 16), diameter=14)
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    viewer.close()

    viewer, widget = open_dock(pixels + 1, name="other")
    set_up(widget, output, (64, 64), (16, 16), diameter=14)
    assert "gui.ome.zarr.job holds a run" in widget.running.output.note.text()
    click(qtbot, widget.running.main)
    until(lambda: "different run" in widget.running.problem.text())
    until(lambda: widget.control.state == "idle")


def test_a_stale_preview_is_dropped(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, write_function: Any
) -> None:
    viewer, widget = open_dock(pixels, name="blobs")
    use_function(widget, write_function("time.sleep(2)\nreturn np.ones(tile.shape, int)"))
    widget.tiles.set_values((64, 64), (16, 16))
    click(qtbot, widget.preview.tile)
    until(lambda: "Segmenting" in widget.preview.status.text())
    widget.preview.again.setChecked(True)
    widget.model.choice.setCurrentText("threshold")
    until(lambda: "Preview" in viewer.layers)
    qtbot.wait(2500)
    # The slow preview would show a single object in the whole tile.
    assert np.asarray(viewer.layers["Preview"].data).max() > 1


def test_preview_of_a_seam_shows_the_merge(open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray) -> None:
    viewer, widget = open_dock(pixels, name="blobs")
    widget.model.settings.set_values({"diameter": 14})
    widget.tiles.set_values((64, 64), (24, 24))
    click(qtbot, widget.preview.seam)
    until(lambda: "Seam: merged" in viewer.layers)
    merged = np.asarray(viewer.layers["Seam: merged"].data)
    before = np.asarray(viewer.layers["Seam: before the merge"].data)
    assert merged.shape == before.shape
    assert len(np.unique(merged)) < len(np.unique(before))
    assert "pairs at the seam are joined" in widget.preview.report.text()


def test_preferences_of_napari_set_where_tiles_run(open_dock: Any) -> None:
    from napari.settings import get_plugin_settings

    preferred = get_plugin_settings("napari-blockbuster").cluster
    preferred.workers, preferred.scheduler = 7, "tcp://elsewhere:8786"
    try:
        from napari_blockbuster.widgets.dock.segment_widget import SegmentWidget
        from napari_blockbuster.widgets.session import ClusterChoice

        viewer, _ = open_dock()
        widget = SegmentWidget(viewer)
        assert widget.running.cluster() == ClusterChoice(7, False, "tcp://elsewhere:8786")
        widget.deleteLater()
    finally:
        preferred.workers, preferred.scheduler = 0, ""


def test_the_order_follows_the_camera(
    open_dock: Any, until: Any, qtbot: Any, tmp_path: Path, write_function: Any
) -> None:
    rng = np.random.default_rng(0)
    viewer, widget = open_dock(rng.integers(0, 2000, (800, 800)).astype(np.uint16), show=True, name="noise")
    use_function(widget, write_function("time.sleep(0.3)\nreturn ndimage.label(tile > 1900)[0]"))
    set_up(widget, tmp_path / "gui.ome.zarr", (50, 50), (4, 4))
    click(qtbot, widget.running.main)
    until(lambda: widget.control.progress.done >= 2)
    viewer.scene.camera.zoom *= 6
    widget.control.view.fly_to(255)
    qtbot.wait(150)
    before = widget.control.job.taken()
    wanted = set(widget.control.view.tiles_in_view())
    assert 255 in wanted
    assert len(wanted) < 30
    until(lambda: len(widget.control.job.taken() - before) >= 4)
    assert len((widget.control.job.taken() - before) - wanted) <= 2
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "paused")


def test_a_killed_worker_costs_only_what_it_was_doing(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, write_function: Any
) -> None:
    import psutil

    def worker_processes() -> set[int]:
        family = psutil.Process().children(recursive=True)
        # Workers are spawned, or forked where the system can.
        words = {each.pid: " ".join(each.cmdline()) for each in family}
        return {pid for pid, line in words.items() if "spawn_main" in line or "forkserver" in line}

    pids = tmp_path / "pids"
    source = write_function(
        f"with open({str(pids)!r}, 'a') as log: log.write(f'{{os.getpid()}}\\n')\n"
        "time.sleep(0.3)\nreturn ndimage.label(tile > 800)[0]"
    )
    _, widget = open_dock(pixels, name="blobs", own_cluster=True)
    use_function(widget, source)
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (16, 16))
    click(qtbot, widget.running.main)
    until(lambda: widget.control.progress.done >= 4)
    before = worker_processes()
    psutil.Process(int(pids.read_text().split()[0])).kill()
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None, 120)
    assert len(widget.control.job.staged()) == 20
    assert len(pids.read_text().split()) <= 20 + 4
    until(lambda: worker_processes() - before, 60)
