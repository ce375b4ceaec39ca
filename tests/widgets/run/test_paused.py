"""Resume, change or leave a paused or failed run with the buttons of the dock."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from dock_actions import click, set_up, use_function
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_blockbuster import Job
from napari_blockbuster.images.examples.synthetic import nuclei_levels
from napari_blockbuster.job.steps.second_try import tiles_again
from napari_blockbuster.widgets.layers.of_job.live import LiveLabels

SLOW = "time.sleep(0.3)\nreturn ndimage.label(tile > 800)[0]"
QUICK = "return ndimage.label(tile > 800)[0]"
BROKEN = "raise ValueError('a typing error')"


def type_into(qtbot: Any, field: Any, text: str) -> None:
    """Replace the text of a field with the keyboard."""
    field.setFocus()
    field.selectAll()
    qtbot.keyClick(field, Qt.Key_Delete)
    qtbot.keyClicks(field, text)
    assert field.text() == text


def answer(text: str, asked: list[str]) -> None:
    """Press a button of the next dialog, once it is open."""

    def press() -> None:
        box = QApplication.activeModalWidget()
        if not isinstance(box, QMessageBox):
            QTimer.singleShot(50, press)
            return
        asked.append(box.text())
        next(button for button in box.buttons() if button.text().replace("&", "") == text).click()

    QTimer.singleShot(50, press)


@pytest.fixture
def paused(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, write_function: Any
) -> tuple[Any, Any]:
    """Viewer and dock of a run that was paused after a few of its 20 tiles."""
    viewer, widget = open_dock(pixels, name="blobs")
    use_function(widget, write_function(SLOW))
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (16, 16))
    click(qtbot, widget.running.main)
    until(lambda: widget.control.progress.done >= 3)
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "paused")
    # Workers finish the tiles that they had begun.
    qtbot.wait(1000)
    return viewer, widget


def test_a_changed_form_starts_a_new_job_and_says_so(paused: Any, until: Any, qtbot: Any, tmp_path: Path) -> None:
    _, widget = paused
    running, first = widget.running, widget.control.job
    staged = first.staged()
    assert not running.new.isHidden()
    assert running.change_note.plain == ""
    widget.tiles.set_values((128, 128), (16, 16))
    assert "tiles (64 × 64 → 128 × 128). New run starts a new job, gui-2.ome.zarr" in running.change_note.plain
    widget.model.choice.setCurrentText("threshold")
    assert "Changed since this run began: model (function → threshold), tiles (" in running.change_note.plain
    widget.tiles.set_values((64, 64), (16, 16))
    widget.model.choice.setCurrentText("function")
    widget.model.settings.set_values({"source": first.spec.model["source"]})
    assert running.change_note.plain == ""

    widget.model.choice.setCurrentText("threshold")
    widget.model.settings.set_values({"threshold": "800"})
    click(qtbot, running.new)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    second = widget.control.job
    assert second.folder == tmp_path / "gui-2.ome.zarr.job"
    assert second.spec.model["model"] == "threshold"
    assert running.output.text() == str(tmp_path / "gui-2.ome.zarr")
    # The first run is as it was.
    assert Job.open(first.folder).staged() == staged

    # A run that is complete is left in the same way.
    widget.model.settings.set_values({"threshold": "900"})
    assert "model settings (threshold 800 → 900). Run starts a new job, gui-3.ome.zarr" in running.change_note.plain
    click(qtbot, running.main)
    until(lambda: widget.control.job is not None and widget.control.job.folder.name == "gui-3.ome.zarr.job")
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)


def test_a_paused_run_is_resumed_with_its_own_settings(paused: Any, until: Any, qtbot: Any) -> None:
    _, widget = paused
    job, bar = widget.control.job, widget.running.bar
    assert widget.running.status.plain == f"Paused at {bar.value()} of 20 tiles"
    assert bar.format() == f"{bar.value()} of 20 tiles"
    widget.tiles.set_values((128, 128), (16, 16))
    assert "Resume continues with the settings of the run" in widget.running.change_note.plain
    click(qtbot, widget.running.main)
    # The form shows what runs.
    assert widget.tiles.tile.values == (64, 64)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert widget.control.job is job
    assert len(job.staged()) == 20


def test_nothing_of_a_run_is_deleted_without_asking(paused: Any, until: Any, qtbot: Any) -> None:
    viewer, widget = paused
    job, asked = widget.control.job, []
    own = job.folder / "notes of mine.txt"
    own.write_text("keep")
    staged = job.staged()
    answer("Cancel", asked)
    click(qtbot, widget.running.discard)
    assert f"{len(staged)} of 20 tiles are segmented" in asked[0]
    assert widget.control.job is job
    answer("Keep tiles", asked)
    click(qtbot, widget.running.discard)
    assert widget.control.state == "idle"
    assert "blobs labels" not in viewer.layers
    assert job.staged() == staged

    widget.open_job(job.folder)
    until(lambda: widget.control.state == "paused")
    answer("Delete tiles", asked)
    click(qtbot, widget.running.discard)
    until(lambda: "deleted" in widget.running.status.plain)
    assert [path.name for path in job.folder.iterdir()] == [own.name]
    assert widget.running.new.isHidden()


@pytest.fixture
def silent() -> Iterator[str]:
    """Address of something that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"tcp://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["nobody listens", "nobody answers"])
def test_a_wrong_scheduler_is_refused_soon_and_forgotten_once_cleared(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, silent: str, kind: str
) -> None:
    address = silent if kind == "nobody answers" else "tcp://127.0.0.1:9"
    _, widget = open_dock(pixels, name="blobs")
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (16, 16), diameter=14)
    type_into(qtbot, widget.running.cluster_fields.address, address)
    began = time.monotonic()
    click(qtbot, widget.running.main)
    until(lambda: "scheduler" in widget.running.problem.plain and widget.control.state == "paused", 30)
    assert time.monotonic() - began < 20
    assert address in widget.running.problem.plain
    assert widget.running.status.plain == "Paused at 0 of 20 tiles"
    type_into(qtbot, widget.running.cluster_fields.address, "")
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert len(widget.control.job.staged()) == 20
    assert widget.running.problem.plain == ""


def test_a_typed_output_stays_when_channel_and_level_change(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path
) -> None:
    stack = np.stack([pixels, pixels + 1])
    _, widget = open_dock([stack, stack[:, ::2, ::2]], name="two", multiscale=True)
    widget.image.axes.setCurrentText("cyx")
    until(lambda: widget.image.source is not None)
    suggested = widget.running.output.text()
    mine = str(tmp_path / "mine.ome.zarr")
    type_into(qtbot, widget.running.output, mine)
    for change in (lambda: widget.image.channel.setValue(1), lambda: widget.image.level.setCurrentIndex(1)):
        change()
        assert widget.image.source is None
        until(lambda: widget.image.source is not None)
        assert widget.running.output.text() == mine
    # An emptied field asks for a suggestion.
    widget.running.output.setFocus()
    widget.running.output.selectAll()
    qtbot.keyClick(widget.running.output, Qt.Key_Delete)
    widget.image.channel.setValue(0)
    until(lambda: widget.image.source is not None)
    assert widget.running.output.text() == suggested


def test_an_edited_function_is_run_by_preview_and_by_try_all_again(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, write_function: Any
) -> None:
    viewer, widget = open_dock(pixels, name="blobs")
    use_function(widget, write_function(BROKEN))
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (16, 16))
    click(qtbot, widget.preview.tile)
    until(lambda: "a typing error" in widget.preview.report.text())
    write_function(QUICK)
    click(qtbot, widget.preview.tile)
    until(lambda: "Preview" in viewer.layers)

    write_function(BROKEN)
    click(qtbot, widget.running.main)
    until(lambda: "a typing error" in widget.running.problem.plain and widget.control.state == "paused")
    assert widget.running.failed.count() == 3
    picky = "if tile.shape == (80, 20):\n    raise ValueError('no luck')\n" + QUICK
    write_function(picky.replace("raise", "    raise").replace("        raise", "    raise"))
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    job = widget.control.job
    assert len(job.staged()) == 19
    assert tiles_again(job.folder) == {}

    write_function(QUICK)
    click(qtbot, widget.running.failed.buttons.layout().itemAt(1).widget())
    until(lambda: len(job.staged()) == 20 and widget.control.state == "staged")
    [index] = tiles_again(job.folder)

    # The tile has no original: once it is undone, it is missing in the job and in the viewer.
    click(qtbot, widget.merging.inspect)
    pairs = widget.inspector.tabs.pairs
    pairs.filter.setCurrentText("all")
    lines = range(pairs.model.rowCount())
    pairs.table.selectRow(next(k for k in lines if index in {tile for tile, _ in pairs.model.pair_at(k)}))
    live, core = viewer.layers["blobs labels"], job.grid[index].core.slices
    assert np.asarray(live.data)[core].any()
    click(qtbot, widget.inspector.panel.again.restore)
    until(lambda: widget.control.state == "paused")
    assert job.staged() == set(range(20)) - {index}
    assert not np.asarray(live.data)[core].any()


def test_pause_takes_effect_while_the_tiles_of_a_job_are_read(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "blobs.tif", pixels, tile=(64, 64))
    job = Job.create(tmp_path / "blobs.tif", "threshold", tmp_path / "o.ome.zarr", tile_shape=64, halo=8)
    assert len(list(job.stage())) == job.n_tiles == 20
    allowed, read = threading.Semaphore(3), []
    land = LiveLabels.land

    def slow_disk(self: LiveLabels, tile: Any, n_objects: int) -> None:
        assert allowed.acquire(timeout=60)
        read.append(tile.index)
        land(self, tile, n_objects)

    monkeypatch.setattr(LiveLabels, "land", slow_disk)
    _, widget = open_dock()
    widget.open_job(job.folder)
    try:
        until(lambda: len(read) == 3 and widget.control.view is not None)
        click(qtbot, widget.running.main)
        allowed.release()
        until(lambda: widget.control.state == "paused")
        assert len(read) == 4
        assert widget.running.status.plain == "Paused. 16 of 20 staged tiles are not shown yet."
        assert widget.running.main.text() == "Resume"
    finally:
        allowed.release(job.n_tiles)
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert sorted(read) == list(range(20))
    shown = np.asarray(widget.control.view.live.levels[0])
    np.testing.assert_array_equal(shown, widget.control.merged.labels.compute())


def test_tiles_are_deleted_after_the_last_one_has_ended(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path, write_function: Any
) -> None:
    _, widget = open_dock(pixels, name="blobs")
    use_function(widget, write_function(SLOW.replace("0.3", "3")))
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (16, 16))
    click(qtbot, widget.running.main)
    until(lambda: widget.control.progress.done >= 1)
    # Other tiles have begun.
    qtbot.wait(500)
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "paused")
    folder = widget.control.job.folder
    answer("Delete tiles", [])
    click(qtbot, widget.running.discard)
    until(lambda: "are deleted" in widget.running.status.plain)
    qtbot.wait(4000)
    assert not folder.exists()


def test_an_edited_function_is_not_mixed_into_a_paused_run(
    paused: Any, until: Any, qtbot: Any, write_function: Callable[[str], str]
) -> None:
    _, widget = paused
    job = widget.control.job
    staged = job.staged()
    write_function(QUICK)
    click(qtbot, widget.running.main)
    until(lambda: "was edited after" in widget.running.problem.plain and widget.control.state == "paused")
    assert widget.running.status.plain.startswith(f"Paused at {len(staged)} of 20 tiles")
    assert job.staged() == staged
    write_function(SLOW)
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert len(job.staged()) == 20


def test_a_run_of_an_image_in_memory_finds_it_among_the_layers(
    open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path
) -> None:
    job = Job.create(pixels, "threshold", tmp_path / "out.ome.zarr", tile_shape=64, halo=10)
    list(job.stage(tiles=[0, 1]))
    # Another image in the form is no reason not to open the job.
    viewer, widget = open_dock(pixels + 1, name="another")
    widget.open_job(job.folder)
    until(lambda: widget.control.state == "paused")
    assert widget.running.status.plain == "Paused at 2 of 20 tiles"
    click(qtbot, widget.running.main)
    until(lambda: "no open layer has the same pixels (200 × 260 uint16)" in widget.running.problem.plain)
    assert widget.running.status.plain == "Paused at 2 of 20 tiles"

    viewer.add_image(np.stack([pixels + 2, pixels]), name="stack", scale=(1, 0.5, 0.5))
    until(lambda: widget.running.layer.count() == 1)
    assert widget.running.layer.currentText() == "stack, channel 1"
    viewer.add_image(pixels.copy(), name="copy", scale=(0.5, 0.5))
    until(lambda: widget.running.layer.count() == 2)
    widget.running.layer.setCurrentText("copy")
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert len(widget.control.job.staged()) == 20
    assert widget.image.layer is viewer.layers["copy"]
    np.testing.assert_array_equal(viewer.layers["out labels"].scale, (0.5, 0.5))
    assert widget.running.output.text() == str(tmp_path / "out.ome.zarr")
    assert not widget.running.form.isRowVisible(widget.running.layer)


def test_a_run_of_a_sample_finds_its_level(open_dock: Any, until: Any, qtbot: Any, tmp_path: Path) -> None:
    def levels() -> list[Any]:
        return nuclei_levels((512, 512), pitch=24, chunks=128)

    job = Job.create(levels()[0], "threshold", tmp_path / "out.ome.zarr", tile_shape=256, halo=10)
    list(job.stage(tiles=[0]))
    viewer, widget = open_dock()
    widget.open_job(job.folder)
    until(lambda: widget.control.state == "paused")
    viewer.add_image(levels(), name="slide", multiscale=True)
    until(lambda: widget.running.layer.count() == 1)
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    assert len(widget.control.job.staged()) == 4
