"""From slider to repaint, and the inspector's table and rings, at 2,209 tiles, a million objects and 100,000 pairs.

    xvfb-run -a -s "-screen 0 1600x1200x24" python tests/benchmarks/bench_inspector.py

Staging the job takes a minute or two; ``--tiles N`` makes it N x N tiles instead of 47 x 47.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("NAPARI_CONFIG", str(Path(tempfile.mkdtemp()) / "settings.yaml"))

import dask.array as da
import napari
import numpy as np
from bench_common import Section
from bench_streaming import Ticker, until
from qtpy.QtCore import Qt

from napari_blockbuster import Job
from napari_blockbuster.widgets.menu.commands import show_segment_widget

TILE, HALO, CELL = 512, 16, 23


PAGE = Section(
    "benchmarks-viewer.md",
    "## The merge inspector",
    "Written by `tests/benchmarks/bench_inspector.py`: a lattice of cells, cut at every border.",
)
say = PAGE.say


def lattice(tile: np.ndarray) -> np.ndarray:
    """Square cells of the whole image's lattice: the pixels say where the tile lies."""
    row, column = (int(v) for v in divmod(int(tile[0, 0]), 2**16))
    y = (np.arange(tile.shape[0]) + row) // CELL
    x = (np.arange(tile.shape[1]) + column) // CELL
    labels = (y - y[0])[:, None] * (x[-1] - x[0] + 1) + (x - x[0])[None, :] + 1
    inside = ((np.arange(tile.shape[0]) + row) % CELL > 2)[:, None] & ((np.arange(tile.shape[1]) + column) % CELL > 2)
    return np.where(inside, labels, 0)


def place_image(n: int) -> da.Array:
    """Each pixel holds its place."""
    size = n * TILE
    rows, columns = da.arange(size, chunks=TILE, dtype=np.uint32), da.arange(size, chunks=TILE, dtype=np.uint32)
    return rows[:, None] * np.uint32(2**16) + columns[None, :]


def measure(job: Job, image: da.Array) -> None:
    """Drive the widgets and print what they take."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1440, 900)
    viewer.add_image(image, contrast_limits=(0, 2**32), visible=False, name="places")
    widget = show_segment_widget(viewer)
    until(lambda: widget.image.source is not None, 60)
    began = time.perf_counter()
    widget.open_job(job.folder)
    until(lambda: widget.control.view is not None, 300)
    shown = time.perf_counter() - began
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None, 300)
    merged = widget.control.merged
    say(f"{len(job.grid)} tiles, {merged.n_objects:,} objects, {len(merged.seams):,} pairs")
    say(f"job opened in {time.perf_counter() - began:.1f} s, its map of tiles shown after {shown:.2f} s")
    slide(widget, "dock alone")

    began = time.perf_counter()
    inspector = widget.inspect()
    say(f"inspector opened: {(time.perf_counter() - began) * 1000:.0f} ms")
    for name, call in (
        ("all pairs listed and ringed", lambda: inspector.tabs.pairs.filter.setCurrentText("all")),
        ("sorted by IoU", lambda: inspector.tabs.pairs.table.sortByColumn(2, Qt.AscendingOrder)),
        ("doubtful ones only", lambda: inspector.tabs.pairs.filter.setCurrentText("doubtful")),
    ):
        began = time.perf_counter()
        call()
        until(lambda: True, 1)
        say(f"{name}: {(time.perf_counter() - began) * 1000:.0f} ms")
    slide(widget, "with inspector")
    viewer.close()


def slide(widget: Any, name: str) -> None:
    """From the slider's release to the repaint, and what the GUI thread was busy with meanwhile."""
    ticker = Ticker()
    took: list[float] = []
    settled: list[float] = []
    view = widget.control.view
    repaint, began = view.refresh, 0.0

    def painted() -> None:
        repaint()
        if len(took) == len(settled):
            took.append((time.perf_counter() - began) * 1000)

    view.refresh = painted
    view.timer.stop()
    ticker.start()
    for value in (30, 45, 60, 35, 50, 25):
        before = widget.control.merged
        began = time.perf_counter()
        widget.merging.rule.slider.setValue(value)
        until(lambda before=before: widget.control.merged is not before and widget.control.state == "staged", 60)
        settled.append((time.perf_counter() - began) * 1000)
    view.refresh = repaint
    view.timer.start()
    gaps = ticker.gaps()
    say(
        f"slider to repaint ({name}): median {np.median(took):.0f} ms, max {max(took):.0f} ms; "
        f"all settled: median {np.median(settled):.0f} ms; "
        f"GUI gaps p99 {np.percentile(gaps, 99):.0f} ms, max {gaps.max():.0f} ms",
    )


def main() -> None:
    """Stage, measure, clean up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiles", type=int, default=47)
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks-viewer.md")
    options = parser.parse_args()
    n = options.tiles
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        image = place_image(n)
        began = time.perf_counter()
        job = Job.create(image, lattice, folder / "labels.ome.zarr", tile_shape=TILE, halo=HALO)
        for _ in job.stage():
            pass
        say(f"staged in {time.perf_counter() - began:.0f} s")
        measure(job, image)
        if options.write:
            PAGE.write()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
