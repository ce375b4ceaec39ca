"""An open inspector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dock_actions import click, set_up


@pytest.fixture
def inspected(open_dock: Any, until: Any, qtbot: Any, pixels: np.ndarray, tmp_path: Path) -> tuple[Any, Any, Any]:
    """Viewer, dock and inspector of a job that is staged and merged."""
    viewer, widget = open_dock(pixels, name="blobs")
    set_up(widget, tmp_path / "gui.ome.zarr", (64, 64), (24, 24), diameter=14)
    click(qtbot, widget.running.main)
    until(lambda: widget.control.state == "staged" and widget.control.merged is not None)
    click(qtbot, widget.merging.inspect)
    widget.inspector.tabs.pairs.filter.setCurrentText("all")
    return viewer, widget, widget.inspector
