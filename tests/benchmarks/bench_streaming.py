"""First steps of a fresh viewer; how it fares while 1,024 tiles stream in from two workers, and on a volume of 258 GB.

    xvfb-run -a -s "-screen 0 1600x1200x24" python tests/benchmarks/bench_streaming.py

It prints a table and writes it to ``docs/benchmarks-viewer.md``. Gaps are those between the ticks of a 5 ms timer in the GUI
thread: a gap of 100 ms is a viewer that did not react for 95 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("NAPARI_CONFIG", str(Path(tempfile.mkdtemp()) / "settings.yaml"))

import napari
import numpy as np
import psutil
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_blockbuster.widgets.menu import samples
from napari_blockbuster.widgets.menu.commands import show_segment_widget

ROOT = Path(__file__).parents[2]
ABOUT = (
    "Written by `tests/benchmarks/bench_streaming.py`. Gaps are measured between ticks of a 5 ms timer in the viewer's "
    "thread. The largest gap on the 258 GB volume is napari itself, which draws a plane of pixels that are computed when they "
    "are read."
)


class Ticker:
    """Records when the GUI thread came round."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._timer = QTimer()
        self._timer.setInterval(5)
        self._timer.timeout.connect(lambda: self.times.append(time.perf_counter()))

    def start(self) -> None:
        self.times.clear()
        self._timer.start()

    def gaps(self) -> np.ndarray:
        """Milliseconds between ticks."""
        self._timer.stop()
        return np.diff(self.times) * 1000


def until(holds: Any, seconds: float) -> None:
    """Let the viewer work until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        QApplication.processEvents()
        time.sleep(0.001)
        if time.monotonic() > end:
            raise TimeoutError


def memory() -> float:
    """Of this process, in MB."""
    return psutil.Process().memory_info().rss / 1e6


def set_up(
    viewer: Any, data: Any, options: dict[str, Any], folder: Path, tile: tuple[int, ...], halo: tuple[int, ...]
) -> Any:
    """A dock on an image, its cluster warm, with the cheapest model."""
    viewer.add_image(data, **options)
    widget = show_segment_widget(viewer)
    until(lambda: widget.image.source is not None, 60)
    widget.running.cluster_fields.workers.setValue(2)
    widget.model.choice.setCurrentText("threshold")
    widget.model.settings.set_values({"threshold": 500})
    widget.tiles.set_values(tile, halo)
    widget.running.output.setText(str(folder / "labels.ome.zarr"))
    found: list[Any] = []
    widget.previews.tile_found.connect(found.append)
    widget.previews.failed.connect(found.append)
    began = time.perf_counter()
    widget.preview_tile()
    until(lambda: found, 300)
    assert not isinstance(found[0], str), found[0]
    print(f"first preview {time.perf_counter() - began:.1f} s, model {found[0].found.seconds:.2f} s", flush=True)
    found.clear()
    began = time.perf_counter()
    widget.preview_tile()
    until(lambda: found, 300)
    widget.overhead = time.perf_counter() - began - found[0].found.seconds
    widget.previews.clear()
    return widget


def watch_first_sight(widget: Any, delays: list[float]) -> None:
    """Record, for each tile in view, how long after it was staged it is painted."""
    view = widget.control.view
    refresh, pending = view.refresh, {}

    def landed(event: Any, before: Any = view.landed) -> None:
        if hasattr(event, "record"):
            pending[event.tile.index] = event.record.staged_at
        before(event)

    def painted() -> None:
        seen = set(view.tiles_in_view()) if pending else set()
        due = bool(view.changes.tiles)
        refresh()
        if due and not view.changes.tiles:
            now = time.time()
            delays.extend(now - pending.pop(i) for i in list(pending) if i in seen)
            pending.clear()

    view.landed = landed
    view.timer.timeout.disconnect()
    view.timer.timeout.connect(painted)


def stream(viewer: Any, widget: Any, n_tiles: int) -> dict[str, float]:
    """Run all tiles and measure."""
    ticker, delays, sizes = Ticker(), [], []
    widget.control.start(widget.plan(), widget.place(), "labels")
    until(lambda: widget.control.view is not None, 60)
    watch_first_sight(widget, delays)
    until(lambda: widget.control.progress.done >= 5, 120)
    ticker.start()
    began, first = time.perf_counter(), widget.control.progress.done
    while widget.control.state == "staging":
        until(lambda: widget.control.state != "staging" or widget.control.progress.done >= (len(sizes) + 1) * 100, 600)
        sizes.append(memory())
    seconds = time.perf_counter() - began
    gaps = ticker.gaps()
    assert widget.control.progress.done == n_tiles, widget.control.progress
    half = len(sizes) // 2
    return {
        "ms per tile": seconds * 1000 / (n_tiles - first),
        "gap p95 ms": float(np.percentile(gaps, 95)),
        "gap p99 ms": float(np.percentile(gaps, 99)),
        "gap max ms": float(gaps.max()),
        "staged to seen, median ms": float(np.median(delays) * 1000),
        "staged to seen, max ms": float(np.max(delays) * 1000),
        "memory growth, second half MB": sizes[-1] - sizes[half],
    }


def follow_camera(viewer: Any, widget: Any) -> float:
    """Move the camera while a run is under way; how many tiles elsewhere are still started afterwards."""
    control = widget.control
    until(lambda: control.view is not None and control.progress.done >= 4, 300)
    control.view.fly_to(len(control.job.grid) - 1)
    viewer.scene.camera.zoom *= 4
    before: set[int] = set()
    moved = time.perf_counter()
    until(lambda: time.perf_counter() - moved > 0.06, 5)
    before = control.job.taken()
    wanted = set(control.view.tiles_in_view())
    until(lambda: bool((wanted & control.job.taken()) - before) or not wanted - before, 120)
    return float(len(control.job.taken() - before - wanted))


def run_slide(folder: Path, size: int = 512) -> list[tuple[str, str]]:
    """1,024 tiles of a slide."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 1000)
    (data, options, _), *_ = samples.slide()
    widget = set_up(viewer, data, options, folder, (size, size), (32, 32))
    n_tiles = (16384 // size) ** 2
    found = stream(viewer, widget, n_tiles)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None, 300)
    rows = [(f"{n_tiles} tiles of {size}²: {name}", f"{value:.1f}") for name, value in found.items()]
    rows.insert(0, ("preview beyond the model's own time, ms", f"{widget.overhead * 1000:.0f}"))
    viewer.close()
    return rows


def run_volume(folder: Path) -> list[tuple[str, str]]:
    """A part of 2,048 tiles of a volume of 258 GB."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 1000)
    (data, options, _), *_ = samples.volume()
    began = time.perf_counter()
    widget = set_up(viewer, data, options, folder, (256, 480, 512), (24, 24, 24))
    opened = time.perf_counter() - began
    viewer.dims.set_point(0, 1000)
    widget.control.start(widget.plan(), widget.place(), "labels")
    until(lambda: widget.control.view is not None, 120)
    ticker = Ticker()
    ticker.start()
    late = follow_camera(viewer, widget)
    until(lambda: widget.control.progress.done >= 12, 600)
    gaps = ticker.gaps()
    widget.control.pause()
    until(lambda: widget.control.state == "paused", 60)
    rows = [
        ("258 GB: tiles", f"{len(widget.control.job.grid)}"),
        ("258 GB: opened and two previews, s", f"{opened:.1f}"),
        ("258 GB: tiles elsewhere started after the camera moved", f"{late:.0f}"),
        ("258 GB: gap p99 ms", f"{np.percentile(gaps, 99):.1f}"),
        ("258 GB: gap max ms", f"{gaps.max():.1f}"),
        ("258 GB: memory of the viewer, MB", f"{memory():.0f}"),
    ]
    viewer.close()
    return rows


def processor_seconds() -> float:
    """Of this process."""
    return float(sum(psutil.Process().cpu_times()[:2]))


def run_first(folder: Path) -> list[tuple[str, str]]:
    """The first sample and the first preview of a fresh process, with the workers warm."""
    viewer = napari.Viewer(show=True)
    QApplication.processEvents()
    began, used = time.perf_counter(), processor_seconds()
    (layer,) = viewer.open_sample("napari-blockbuster", "volume")
    until(lambda: layer.loaded, 60)
    QApplication.processEvents()
    opened, cpu = time.perf_counter() - began, processor_seconds() - used
    began = time.perf_counter()
    viewer.dims.set_current_step(0, viewer.dims.current_step[0] + 1)
    until(lambda: layer.loaded, 60)
    QApplication.processEvents()
    plane = time.perf_counter() - began
    layer.visible = False
    widget = show_segment_widget(viewer)
    widget.choose_sample()
    until(lambda: widget.image.source is not None and widget.image.layer.name == "nuclei", 60)
    widget.running.output.setText(str(folder / "labels.ome.zarr"))
    # The mouse over the dock starts the workers, while the user reads it.
    widget.control.warm_up(widget.running.cluster())
    warmed = time.perf_counter()
    until(lambda: time.perf_counter() - warmed > 20, 30)
    beyond = []
    for _ in range(3):
        found: list[Any] = []
        widget.previews.tile_found.connect(found.append)
        began = time.perf_counter()
        widget.preview_tile()
        until(lambda found=found: found, 300)
        beyond.append(time.perf_counter() - began - found[0].found.seconds)
        widget.previews.tile_found.disconnect(found.append)
    viewer.close()
    return [
        ("fresh process: 258 GB sample opened, s", f"{opened:.1f}"),
        ("fresh process: 258 GB sample opened, processor s", f"{cpu:.1f}"),
        ("fresh process: a plane further, s", f"{plane:.2f}"),
        ("first preview of the nuclei beyond the model's own time, s", f"{beyond[0]:.2f}"),
        ("later previews beyond the model's own time, s", f"{min(beyond[1:]):.2f}"),
        ("load of the machine meanwhile, of its CPUs", f"{os.getloadavg()[0]:.0f} of {os.cpu_count()}"),
    ]


PARTS = {"first": run_first, "slide": run_slide, "volume": run_volume}


def in_process(part: str) -> list[tuple[str, str]]:
    """Run one part in a process of its own: memory is that of one viewer."""
    done = subprocess.run(
        [sys.executable, __file__, "--only", part, "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    return [(name, value) for name, value in json.loads(done.stdout.splitlines()[-1])]


def main() -> None:
    """Run what was asked for, print and write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--json", action="store_true", help="print rows, for the process that started this one")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks-viewer.md")
    options = parser.parse_args()
    if options.only is None:
        rows = [row for part in PARTS for row in in_process(part)]
    else:
        folder = Path(tempfile.mkdtemp(prefix="bench-"))
        try:
            sizes = {"size": options.size} if options.only == "slide" else {}
            rows = PARTS[options.only](folder, **sizes)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(rows))
        return
    table = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, napari {napari.__version__}, software OpenGL under Xvfb."
    text = "\n".join(["# The viewer under load", "", ABOUT, "", machine, "", *table, ""])
    print(text)
    if options.write:
        (ROOT / "docs" / "benchmarks-viewer.md").write_text(text)


if __name__ == "__main__":
    main()
