"""Take the screenshots of the tutorial in a real session.

    xvfb-run -a -s "-screen 0 1600x1200x24" python docs/make_screenshots.py

The files are written to ``docs/images/``, in napari's dark theme. ``--theme light`` adds ``-light`` to the names.
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

import napari
import numpy as np
from napari.settings import get_settings
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QScrollArea

from napari_blockbuster.widgets.table.opening import find_table

IMAGES = Path(__file__).parent / "images"


class Session:
    """Viewer with the plugin, as large as the screen of a laptop."""

    def __init__(self, theme: str, folder: Path) -> None:
        get_settings().appearance.theme = theme
        self.suffix = "" if theme == "dark" else f"-{theme}"
        self.folder = folder
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(1440, 900)
        self.viewer.open_sample("napari-blockbuster", "nuclei")
        _, self.widget = self.viewer.window.add_plugin_dock_widget("napari-blockbuster", "Segment large image")
        self.until(lambda: self.widget.image.source is not None)
        self.viewer.dims.set_point(0, 30 * 0.29)

    def until(self, holds: Any, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not holds():
            QApplication.processEvents()
            time.sleep(0.01)
            if time.monotonic() > end:
                raise TimeoutError

    def rest(self, seconds: float = 0.7) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def show(self, section: Any) -> None:
        """Scroll the dock to a section."""
        self.widget.findChild(QScrollArea).ensureWidgetVisible(section, 0, 0)

    def take(self, name: str) -> None:
        self.rest()
        self.viewer.window.screenshot(str(IMAGES / f"{name}{self.suffix}.png"), flash=False, canvas_only=False)


def tour(session: Session) -> None:
    """Take one screenshot for each step of the tutorial."""
    widget, viewer = session.widget, session.viewer
    widget.model.settings.set_values({"diameter": 40})
    widget.tiles.set_values((60, 96, 96), (20, 20, 20))
    widget.tiles.lines.setChecked(True)
    widget.tiles.outline.setChecked(True)
    found: list[Any] = []
    widget.previews.tile_found.connect(found.append)
    widget.preview.tile.click()
    session.until(lambda: found)
    session.show(widget.preview)
    session.take("napari-preview")

    widget.preview.advice.use.click()
    widget.tiles.outline.setChecked(False)
    widget.tiles.lines.setChecked(False)
    widget.running.output.setText(str(session.folder / "nuclei.labels.ome.zarr"))
    widget.running.main.click()
    session.until(lambda: widget.control.progress.done >= 3)
    session.show(widget.running.status)
    session.rest(0.3)
    session.take("napari-running")
    session.until(lambda: widget.control.state == "staged" and widget.control.merged is not None)

    inspector = widget.inspect()
    session.until(lambda: inspector.tabs.report.text() != "")
    pairs = inspector.tabs.pairs
    pairs.filter.setCurrentText("all")
    lines = range(pairs.model.rowCount())
    joined = [k for k in lines if widget.control.merged.joined[pairs.model.row_at(k)]]
    pairs.table.selectRow(joined[0])
    session.until(lambda: "Pair" in viewer.layers)
    viewer.scene.camera.zoom *= 2.2
    session.show(widget.merging)
    session.take("napari-inspector")

    inspector.parent().hide()
    viewer.reset_view()
    table_tour(session)
    widget.merging.write.click()
    session.until(lambda: widget.control.state == "written")
    viewer.layers["nuclei labels"].contour = 0
    session.show(widget.merging)
    session.take("napari-written")


def table_tour(session: Session) -> None:
    """Take the screenshots of the tutorial about the table."""
    widget, viewer = session.widget, session.viewer
    widget.merging.table.click()
    table = find_table(viewer)
    session.until(lambda: table.content is not None and table.objects.model.rowCount() > 0)
    session.show(widget.merging)
    table.plot.x.setCurrentText("area")
    table.plot.y.setCurrentText("sphericity")
    table.bar.color.setCurrentText("area")
    session.until(lambda: table.painter.colors.is_shown)
    session.rest()
    area, round_ = (table.content.column(name) for name in ("area", "sphericity"))
    low, high = np.median(area), area.max() * 1.03
    bottom, top = round_.min() - 0.01, np.quantile(round_, 0.5)
    angles = np.linspace(0, 2 * np.pi, 40)
    middle, size = np.array([low + high, bottom + top]) / 2, np.array([high - low, top - bottom]) / 2
    table.plot.select_inside(middle + size * np.column_stack([np.cos(angles), np.sin(angles)]))
    session.until(lambda: table.selected is not None and table.painter.selection.is_shown)
    session.take("napari-table")

    table.select_rows(np.zeros(len(area), bool))
    table.bar.color.setCurrentText("—")
    column = table.content.names.index("sphericity")
    table.objects.table.sortByColumn(column, Qt.AscendingOrder)
    session.rest()
    table.objects.table.selectRow(0)
    session.until(lambda: table.painter.selection.is_shown)
    viewer.scene.camera.zoom *= 1.6
    table.objects.table.scrollTo(table.objects.model.index(0, column))
    session.take("napari-table-odd")
    table.painter.clear()
    table.parent().hide()
    viewer.reset_view()
    viewer.dims.set_point(0, 30 * 0.29)


def main() -> None:
    """Take all screenshots in one theme."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--theme", default="dark", choices=["dark", "light"])
    folder = Path(tempfile.mkdtemp())
    try:
        session = Session(parser.parse_args().theme, folder)
        tour(session)
        session.viewer.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
