"""The table of objects in the viewer at 1.1 million objects: list, sort, filter, plot, lasso, color, follow the threshold.

    xvfb-run -a -s "-screen 0 1600x1200x24" python tests/benchmarks/bench_table_dock.py

Staging the job takes a minute or two; ``--tiles N`` makes it N x N tiles instead of 47 x 47.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("NAPARI_CONFIG", str(Path(tempfile.mkdtemp()) / "settings.yaml"))

import napari
import numpy as np
import psutil
from bench_common import Section
from bench_inspector import HALO, TILE, lattice, place_image
from bench_streaming import Ticker, until
from qtpy.QtCore import Qt

from napari_blockbuster import Job
from napari_blockbuster.widgets.menu.commands import show_object_table, show_segment_widget

PAGE = Section(
    "benchmarks-viewer.md",
    "## The table of objects",
    "Written by `tests/benchmarks/bench_table_dock.py`: the same lattice of cells.",
)
say = PAGE.say


def megabytes() -> float:
    return psutil.Process().memory_info().rss / 1e6


def timed(name: str, act: Callable[[], object], done: Callable[[], bool], rounds: int = 3) -> None:
    """Say how long something takes until it is shown, and how long the viewer stood still meanwhile."""
    took, gaps = [], []
    for _ in range(rounds):
        ticker = Ticker()
        ticker.start()
        began = time.perf_counter()
        act()
        # A ticker sees nothing of a call that comes before its first tick.
        gaps.append((time.perf_counter() - began) * 1000)
        until(done, 60)
        took.append((time.perf_counter() - began) * 1000)
        gaps.append(ticker.gaps().max(initial=0))
    say(f"{name}: median {np.median(took):.0f} ms; largest GUI gap {max(gaps):.0f} ms")


def measure(job: Job, image: Any) -> None:
    """Drive the widgets and print what they take."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1440, 900)
    viewer.add_image(image, contrast_limits=(0, 2**32), visible=False, name="places")
    widget = show_segment_widget(viewer)
    until(lambda: widget.image.source is not None, 60)
    widget.open_job(job.folder)
    until(lambda: widget.control.view is not None, 300)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None, 300)
    before = megabytes()
    began = time.perf_counter()
    table = show_object_table(viewer)
    until(lambda: table.content is not None and table.objects.model.rowCount() > 0, 120)
    n = len(table.content)
    say(
        f"{n:,} objects, {len(table.content.names)} columns: listed {time.perf_counter() - began:.1f} s after the table "
        f"was opened; {megabytes() - before:.0f} MB"
    )
    objects, plot, painter = table.objects, table.plot, table.painter
    idle = lambda: not (objects._work.is_busy or plot._work.is_busy)  # noqa: E731
    until(idle, 60)
    area = table.content.names.index("area")
    orders = iter([Qt.DescendingOrder, Qt.AscendingOrder] * 3)
    timed("sorted by a column", lambda: objects.table.sortByColumn(area, next(orders)), idle)
    texts = iter(["area > 300", "area > 300 and extent < 0.9", ""])
    timed("filtered", lambda: (objects.filter.setText(next(texts)), objects.apply_filter()), idle)
    plot.x.setCurrentText("centroid-0")
    columns = iter(["centroid-1", "area", "extent"])
    timed("scatter of two columns", lambda: plot.y.setCurrentText(next(columns)), idle)
    plot.y.setCurrentText("centroid-1")
    until(idle, 60)
    angles = np.linspace(0, 2 * np.pi, 60)
    lasso = 6000 + 5000 * np.column_stack([np.cos(angles), np.sin(angles)])
    marked = lambda: painter.selection.is_shown and idle() and not painter._marking.is_busy  # noqa: E731
    timed("lasso, marked in plot, list and viewer", lambda: plot.select_inside(lasso), marked)
    say(f"selected by the lasso: {int(table.selected.sum()):,} objects")
    names = iter(["area", "centroid-0", "extent"])
    colored = lambda: painter.colors.is_shown and not painter._coloring.is_busy  # noqa: E731
    timed("colored by a column", lambda: table.bar.color.setCurrentText(next(names)), colored)
    lines = iter([n // 2, 10, n - 5])
    timed("a row flies to its object", lambda: objects.table.selectRow(next(lines)), marked)
    values = iter([30, 60, 45])

    def slide() -> None:
        widget.merging.rule.slider.setValue(next(values))

    state: dict[str, Any] = {"merged": widget.control.merged}

    def followed() -> bool:
        if widget.control.merged is state["merged"] or table.follower._work.is_busy or not idle():
            return False
        if len(table.content) != widget.control.merged.n_objects:
            return False
        state["merged"] = widget.control.merged
        return True

    timed("threshold slider until merged, table listed and plotted", slide, followed)
    say(f"memory of the viewer: {megabytes():.0f} MB, {megabytes() - before:.0f} MB of it since the table was opened")
    viewer.close()


def main() -> None:
    """Stage, measure, clean up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiles", type=int, default=47)
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks-viewer.md")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        image = place_image(options.tiles)
        job = Job.create(image, lattice, folder / "labels.ome.zarr", tile_shape=TILE, halo=HALO)
        for _ in job.stage():
            pass
        measure(job, image)
        if options.write:
            PAGE.write()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
