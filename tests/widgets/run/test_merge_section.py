"""Filters in the dock, in a real viewer with a real cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dock_actions import click, set_up, use_function

from napari_blockbuster import segment
from napari_blockbuster.merge.filters import ObjectFilter


@pytest.fixture
def rings() -> np.ndarray:
    """Rings of several sizes, one with a speck inside, one at the edge: (200, 260)."""
    image = np.zeros((200, 260), np.uint16)
    for y, x, outer, inner in (
        (60, 60, 50, 40),
        (140, 180, 55, 20),
        (150, 50, 9, 4),
        (60, 60, 8, 4),
        (60, 255, 20, 10),
    ):
        away = np.hypot(*(axis - centre for axis, centre in zip(np.indices(image.shape), (y, x), strict=True)))
        image[(away <= outer) & (away > inner)] = 1000
    return image


def test_holes_are_filled_and_taken_back(
    open_dock: Any, until: Any, qtbot: Any, rings: np.ndarray, tmp_path: Path, write_function: Any
) -> None:
    viewer, widget = open_dock(rings, name="rings")
    function = write_function("return ndimage.label(tile > 500)[0]")
    use_function(widget, function)
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (8, 8))
    widget.merging.rule.choice.setCurrentText("touch")
    click(qtbot, widget.running.main)
    control = widget.control
    until(lambda: control.state == "staged" and control.merged is not None)
    live = viewer.layers["rings labels"]
    before = np.asarray(live.data).copy()
    np.testing.assert_array_equal(before > 0, rings > 0)

    def merged_with(keep: ObjectFilter) -> bool:
        return control.state == "staged" and control.merged.filter == keep

    said: list[str] = []
    control.status.connect(said.append)
    widget.merging.filter.fill_holes.setChecked(True)
    until(lambda: merged_with(ObjectFilter(fill_holes=True)))
    assert "Looking for holes" in said
    assert "3 holes filled" in widget.merging.counts.text()
    filled = np.asarray(live.data).copy()
    np.testing.assert_array_equal(filled, control.merged.labels.compute())
    assert (filled > 0).sum() > (before > 0).sum()
    assert "fill_holes=True" in widget.plan().script()
    assert "--fill-holes" in widget.plan().command()

    # Found once, holes are only looked up.
    said.clear()
    widget.merging.filter.smallest.setValue(300)
    keep = ObjectFilter(min_size=300, fill_holes=True)
    until(lambda: merged_with(keep))
    without_speck = np.asarray(live.data).copy()
    np.testing.assert_array_equal(without_speck, control.merged.labels.compute())
    assert without_speck[60, 60] == without_speck[60, 15] > 0
    widget.merging.filter.fill_holes.setChecked(False)
    widget.merging.filter.smallest.setValue(0)
    until(lambda: merged_with(ObjectFilter()))
    np.testing.assert_array_equal(np.asarray(live.data), before)
    assert "Looking for holes" not in said

    widget.merging.filter.fill_holes.setChecked(True)
    widget.merging.filter.smallest.setValue(300)
    until(lambda: merged_with(keep))
    click(qtbot, widget.merging.write)
    until(lambda: control.state == "written")
    written = viewer.layers["rings labels"]
    shown = written.data[0] if written.multiscale else written.data
    headless = segment(
        rings,
        function,
        tmp_path / "headless.ome.zarr",
        tile_shape=64,
        halo=8,
        merge="touch",
        filter=keep,
        progress=False,
    )
    np.testing.assert_array_equal(np.asarray(shown), headless.labels.compute())
    np.testing.assert_array_equal(np.asarray(shown), without_speck)


def test_unticking_stops_the_search(
    open_dock: Any, until: Any, qtbot: Any, rings: np.ndarray, tmp_path: Path, write_function: Any
) -> None:
    _, widget = open_dock(rings, name="rings")
    use_function(widget, write_function("return ndimage.label(tile > 500)[0]"))
    set_up(widget, tmp_path / "gui.ome.zarr", (20, 20), (4, 4))
    widget.merging.rule.choice.setCurrentText("touch")
    click(qtbot, widget.running.main)
    control = widget.control
    until(lambda: control.state == "staged" and control.merged is not None)
    looked_at: list[Any] = []
    failed: list[str] = []
    control.progressed.connect(looked_at.append)
    control.failed.connect(failed.append)
    widget.merging.filter.fill_holes.setChecked(True)
    until(lambda: len(looked_at) > 3)
    widget.merging.filter.fill_holes.setChecked(False)
    until(lambda: control.state == "staged")
    assert looked_at[-1].done < looked_at[-1].total
    assert control.merged.filter == ObjectFilter()
    assert not failed
    widget.merging.filter.fill_holes.setChecked(True)
    until(lambda: control.state == "staged" and control.merged.filled is not None)
    assert control.merged.filled.n_holes == 3
