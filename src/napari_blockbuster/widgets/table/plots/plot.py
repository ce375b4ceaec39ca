"""Histogram of a column, or two columns against each other, with a lasso that selects objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QEvent, QPointF, Qt, Signal
from qtpy.QtGui import QColor, QPainterPath
from qtpy.QtWidgets import QComboBox, QGraphicsPathItem, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_blockbuster.widgets.controls import row_of
from napari_blockbuster.widgets.table.content import TableContent
from napari_blockbuster.widgets.table.latest import Latest

from .density import Bars, Cloud, bars, cloud, inside

__all__ = ["PlotPanel"]

POINT, CHOSEN = QColor(0x56, 0xB4, 0xE9, 150), QColor(0xE6, 0x9F, 0x00, 230)
COUNT = "count"
"""Entry of the vertical axis for a histogram."""


class LassoBox(pg.ViewBox):
    """A plot area in which dragging with the left button draws a lasso. The wheel zooms, the middle button pans."""

    drawn = Signal(object)
    """Corners of the lasso, in the units of the axes: (n, 2)."""

    def __init__(self) -> None:
        super().__init__(enableMenu=False)
        self._corners: list[QPointF] = []
        self._outline = QGraphicsPathItem()
        self._outline.setPen(pg.mkPen(CHOSEN, width=2, cosmetic=True))
        self._outline.setZValue(10)
        self.addItem(self._outline, ignoreBounds=True)

    def mouseDragEvent(self, event: Any, axis: Any = None) -> None:
        if event.button() != Qt.LeftButton or axis is not None:
            super().mouseDragEvent(event, axis)
            return
        event.accept()
        if event.isStart():
            self._corners = [self.mapSceneToView(event.buttonDownScenePos())]
        self._corners.append(self.mapSceneToView(event.scenePos()))
        path = QPainterPath(self._corners[0])
        for corner in self._corners[1:]:
            path.lineTo(corner)
        self._outline.setPath(path)
        if event.isFinish():
            path.closeSubpath()
            self._outline.setPath(path)
            self.drawn.emit(np.array([[corner.x(), corner.y()] for corner in self._corners]))

    def mouseDoubleClickEvent(self, event: Any) -> None:
        """Show everything again."""
        self.autoRange()
        event.accept()

    def clear_outline(self) -> None:
        """Remove the lasso."""
        self._outline.setPath(QPainterPath())


class PlotPanel(QWidget):
    """Plot of the listed rows. What it draws is counted in a thread."""

    lassoed = Signal(object)
    """Mask of the rows of the content that a lasso selects."""

    def __init__(self) -> None:
        super().__init__()
        self._content: TableContent | None = None
        self._rows = np.zeros(0, np.intp)
        self._selected: np.ndarray | None = None
        self._work = Latest(self, lambda error: self.hint.setText(str(error)))
        self.x, self.y = QComboBox(), QComboBox()
        for box, name in ((self.x, "Horizontal axis"), (self.y, "Vertical axis")):
            box.setAccessibleName(name)
            box.setToolTip(f"{name}. Choose {COUNT} as vertical axis for a histogram.")
            box.setSizeAdjustPolicy(QComboBox.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(8)
            box.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
            box.currentTextChanged.connect(lambda *_: self._redraw(fit=True))
        self.area = LassoBox()
        self.area.drawn.connect(self._drawn)
        self.plot = pg.PlotWidget(viewBox=self.area)
        self.plot.hideButtons()
        self.plot.setMinimumSize(120, 60)
        self.plot.setToolTip("Drag to select objects. Wheel: zoom. Middle button: move. Double-click: show everything.")
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self._items: list[Any] = []
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(row_of(QLabel("x"), self.x, QLabel("y"), self.y))
        column.addWidget(self.plot, 1)
        self._paint_theme()

    # ------------------------------------------------------------------------------------------------------ content
    def show_content(self, content: TableContent | None) -> None:
        """Offer the columns of a table. Chosen axes stay if it has them."""
        self._content, self._selected = content, None
        names = [] if content is None else content.numeric
        _offer(self.x, names, "area")
        _offer(self.y, [COUNT, *names], COUNT)
        self.area.clear_outline()

    def show_rows(self, rows: np.ndarray) -> None:
        """Plot some rows of the table."""
        self._rows = rows
        self._redraw(fit=True)

    def show_selected(self, selected: np.ndarray | None) -> None:
        """Mark selected rows: a mask of the rows of the table."""
        self._selected = selected
        if selected is None:
            self.area.clear_outline()
        self._redraw(fit=False)

    def _redraw(self, fit: bool) -> None:
        content, rows = self._content, self._rows
        x, y = self.x.currentText(), self.y.currentText()
        if content is None or x not in content.numeric:
            self._clear()
            return
        selected = self._selected

        def count() -> Bars | Cloud:
            chosen = None if selected is None else selected[rows]
            if y == COUNT or y not in content.numeric:
                return bars(content.column(x)[rows], chosen)
            return cloud(content.column(x)[rows], content.column(y)[rows], chosen)

        self._work.ask(count, lambda found: self._draw(found, x, y, fit))

    def _clear(self) -> None:
        for item in self._items:
            self.plot.removeItem(item)
        self._items = []

    def _draw(self, found: Bars | Cloud, x: str, y: str, fit: bool) -> None:
        self._clear()
        if isinstance(found, Bars):
            self._items = [_steps(found.edges, found.counts, POINT), _steps(found.edges, found.selected, CHOSEN)]
        elif found.points is not None:
            self._items = [_dots(found.points, POINT), _dots(found.selected_points, CHOSEN)]
        else:
            self._items = [
                _picture(found.density, found.box, "viridis"),
                _picture(found.selected_density, found.box, None),
            ]
        for item in self._items:
            self.plot.addItem(item)
        if fit:
            self.area.autoRange()

    # ------------------------------------------------------------------------------------------------------- lasso
    def _drawn(self, polygon: np.ndarray) -> None:
        self.select_inside(polygon)

    def select_inside(self, polygon: np.ndarray) -> None:
        """Select the listed objects inside a polygon, in the units of the axes."""
        content, rows = self._content, self._rows
        x, y = self.x.currentText(), self.y.currentText()
        if content is None or x not in content.numeric or len(polygon) < 3:
            return

        def find() -> np.ndarray:
            second = None if y == COUNT or y not in content.numeric else content.column(y)[rows]
            mask = np.zeros(len(content), bool)
            mask[rows[inside(content.column(x)[rows], second, polygon)]] = True
            return mask

        self._work.ask(find, self.lassoed.emit)

    # ------------------------------------------------------------------------------------------------------- theme
    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.PaletteChange, QEvent.StyleChange):
            self._paint_theme()

    def _paint_theme(self) -> None:
        palette = self.palette()
        text = palette.color(palette.WindowText if hasattr(palette, "WindowText") else palette.ColorRole.WindowText)
        self.plot.setBackground(None)
        for side in ("bottom", "left"):
            axis = self.plot.getAxis(side)
            axis.setPen(text)
            axis.setTextPen(text)
            # "extent (x0.001)" would be a riddle.
            axis.enableAutoSIPrefix(False)


def _offer(box: QComboBox, names: list[str], usual: str) -> None:
    before = box.currentText() or usual
    box.blockSignals(True)
    box.clear()
    box.addItems(names)
    box.setCurrentText(before if before in names else usual if usual in names else (names or [""])[0])
    box.blockSignals(False)


def _steps(edges: np.ndarray, counts: np.ndarray, color: QColor) -> Any:
    return pg.PlotCurveItem(edges, counts, stepMode="center", fillLevel=0, brush=color, pen=None)


def _dots(points: np.ndarray | None, color: QColor) -> Any:
    shown = np.zeros((0, 2)) if points is None else points
    return pg.ScatterPlotItem(shown[:, 0], shown[:, 1], size=4, pen=None, brush=color, pxMode=True)


def _picture(density: np.ndarray | None, box: tuple[float, float, float, float], colormap: str | None) -> Any:
    counts = np.zeros((1, 1)) if density is None else density
    shown = np.log1p(counts).astype(np.float32)
    highest = float(shown.max()) or 1.0
    alpha = np.where(counts > 0, 255, 0).astype(np.uint8)
    if colormap is None:
        pixels = np.empty((*counts.shape, 4), np.uint8)
        pixels[..., :3] = (CHOSEN.red(), CHOSEN.green(), CHOSEN.blue())
    else:
        table = pg.colormap.get(colormap).getLookupTable(nPts=256, alpha=True)
        pixels = table[(shown / highest * 255).astype(np.uint8)].astype(np.uint8)
    pixels[..., 3] = alpha
    item = pg.ImageItem(pixels, axisOrder="col-major")
    item.setRect(*box)
    return item
