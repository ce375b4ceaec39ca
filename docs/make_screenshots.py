"""Take screenshots in a real session.

    xvfb-run -a -s "-screen 0 1920x1200x24" python docs/make_screenshots.py

takes the pictures of the tutorial, in napari's dark theme, and writes them to ``docs/images/``.

    … python docs/make_screenshots.py --every-step FOLDER --theme light --size 1366x768

takes every step of the dock, to look at: both themes, any size, any ``QT_SCALE_FACTOR``.
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
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_blockbuster.widgets.menu.commands import show_segment_widget
from napari_blockbuster.widgets.table.opening import find_table

IMAGES = Path(__file__).parent / "images"


class Session:
    """Viewer with the plugin.

    Parameters
    ----------
    theme : str
    size : tuple of int
        Of the window, in pixels.
    images : Path
        Folder of the screenshots.
    folder : Path
        Folder of the run.
    """

    def __init__(self, theme: str, size: tuple[int, int], images: Path, folder: Path) -> None:
        get_settings().appearance.theme = theme
        self.images, self.folder = images, folder
        images.mkdir(parents=True, exist_ok=True)
        self.viewer = napari.Viewer(show=True)
        self.viewer.window._qt_window.setGeometry(0, 0, *size)
        self.widget = show_segment_widget(self.viewer)

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

    def press(self, button: Any) -> None:
        """Press a button as a mouse does."""
        QTest.mouseClick(button, Qt.LeftButton)
        self.rest(0.1)

    def open_sample(self) -> None:
        self.press(self.widget.image.sample)
        self.until(lambda: self.widget.image.source is not None)
        self.viewer.dims.set_point(0, 30 * 0.29)

    def preview(self) -> None:
        found: list[Any] = []
        self.widget.previews.tile_found.connect(found.append)
        self.press(self.widget.preview.tile)
        self.until(lambda: found)

    def run(self, n_tiles: int = 1) -> None:
        """Start the run, until some tiles are done."""
        self.widget.running.output.setText(str(self.folder / "nuclei.labels.ome.zarr"))
        self.press(self.widget.running.main)
        self.until(lambda: self.widget.control.progress.done >= n_tiles)

    def merged(self) -> None:
        control = self.widget.control
        self.until(lambda: control.state == "staged" and control.merged is not None)

    def write(self) -> None:
        self.press(self.widget.merging.write)
        self.until(lambda: self.widget.control.state == "written")

    def inspect(self) -> Any:
        """Open the inspector, and choose a pair that is joined."""
        control = self.widget.control
        inspector = self.widget.inspect()
        self.until(lambda: inspector.tabs.report.text() != "")
        pairs = inspector.tabs.pairs
        pairs.filter.setCurrentText("all")
        lines = range(pairs.model.rowCount())
        joined = [k for k in lines if control.merged.joined[pairs.model.row_at(k)]]
        pairs.table.selectRow(joined[0])
        self.until(lambda: "Pair" in self.viewer.layers)
        return inspector

    def take(self, name: str) -> None:
        self.rest()
        self.viewer.window._qt_window.grab().save(str(self.images / f"{name}.png"))


def tutorial(session: Session) -> None:
    """Take the pictures of the tutorial."""
    widget, viewer = session.widget, session.viewer
    session.open_sample()
    widget.tiles.set_values((60, 96, 96), (20, 20, 20))
    widget.tiles.lines.setChecked(True)
    widget.tiles.outline.setChecked(True)
    widget.form.path.open(widget.preview)
    session.preview()
    session.take("napari-preview")

    session.press(widget.preview.advice.use)
    widget.tiles.outline.setChecked(False)
    widget.tiles.lines.setChecked(False)
    session.run(3)
    session.rest(0.3)
    session.take("napari-running")
    session.merged()

    inspector = session.inspect()
    viewer.scene.camera.zoom *= 2.2
    session.take("napari-inspector")

    inspector.parent().hide()
    viewer.reset_view()
    table_tour(session)
    session.write()
    viewer.layers["nuclei labels"].contour = 0
    session.take("napari-written")


def table_tutorial(session: Session) -> None:
    """Take the pictures of the tutorial about the table."""
    session.open_sample()
    session.widget.form.path.open(session.widget.running)
    session.rest()
    session.run()
    session.merged()
    table_tour(session)


def table_tour(session: Session) -> None:
    """Take the pictures of the table of the merged objects."""
    widget, viewer = session.widget, session.viewer
    widget.merging.table.click()
    table = find_table(viewer)
    session.until(lambda: table.content is not None and table.objects.model.rowCount() > 0)
    table.plot.x.setCurrentText("area")
    table.plot.y.setCurrentText("sphericity")
    table.bar.color.setCurrentText("area")
    session.until(lambda: table.painter.colors.is_shown)
    session.rest()
    area, round_ = (table.content.column(name) for name in ("area", "sphericity"))
    # A lasso around the five objects that are least round.
    points = np.column_stack([area, round_])
    around = points[np.argsort(round_)[:5]]
    low, high = around.min(axis=0), around.max(axis=0)
    angles = np.linspace(0, 2 * np.pi, 40)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    table.plot.select_inside((low + high) / 2 + (high - low) * 0.72 * circle)
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


def where_tutorial(session: Session) -> None:
    """Take the pictures of a run in a drawn region: before it, and its result."""
    widget, viewer = session.widget, session.viewer
    session.open_sample()
    widget.tiles.set_values((60, 64, 64), (20, 20, 20))
    widget.form.path.open(widget.form.where)
    session.press(widget.form.where.draw)
    layer = viewer.layers["Region"]
    # Corners are in voxels of the image, whose scale the layer has.
    corners = np.array([[30, 40], [60, 150], [140, 225], [215, 160], [170, 50]])
    plane = layer.world_to_data(viewer.dims.point)[0] if layer.ndim == 3 else None
    layer.add_polygons(corners if plane is None else np.column_stack([np.full(len(corners), plane), corners]))
    layer.mode = "pan_zoom"
    where = widget.form.where
    session.until(lambda: " tiles" in where.note.plain and where.overlay.layer is not None)
    session.take("napari-where")
    widget.form.path.open(widget.running)
    session.run()
    session.merged()
    where.overlay.layer.visible = False
    session.take("napari-where-result")


def every_step(session: Session) -> None:
    """Take a picture of every step of the dock."""
    widget = session.widget
    session.take("0-empty")
    session.open_sample()
    session.take("1-model")
    session.press(widget.image.opener)
    session.take("2-image")
    session.press(widget.preview.opener)
    session.preview()
    session.take("3-preview")
    session.press(widget.tiles.fold)
    session.take("4-tiles")
    session.press(widget.running.opener)
    session.press(widget.running.cluster_fields.fold)
    session.take("5-run")
    session.run()
    session.take("6-running")
    session.merged()
    session.take("7-result")
    inspector = session.inspect()
    session.take("8-inspector")
    inspector.parent().hide()
    session.write()
    session.take("9-written")
    widget.tour.start()
    session.take("tour-1")
    widget.tour.next()
    session.take("tour-2")
    widget.tour.end()


def main() -> None:
    """Take screenshots in one theme and one size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theme", default="dark", choices=["dark", "light"])
    parser.add_argument("--size", default="1440x900")
    parser.add_argument("--table", action="store_true", help="only those of the table of objects")
    parser.add_argument("--where", action="store_true", help="only those of a run in a region")
    parser.add_argument("--every-step", type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    width, height = map(int, chosen.size.split("x"))
    folder = Path(tempfile.mkdtemp())
    try:
        session = Session(chosen.theme, (width, height), chosen.every_step or IMAGES, folder)
        if chosen.every_step:
            every_step(session)
        elif chosen.table:
            table_tutorial(session)
        elif chosen.where:
            where_tutorial(session)
        else:
            tutorial(session)
        session.viewer.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
