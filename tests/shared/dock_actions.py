"""Dock actions shared by several tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from front_door import unfold
from qtpy.QtCore import Qt


def click(qtbot: Any, button: Any) -> None:
    """Press a button as a mouse does."""
    unfold(button)
    assert button.isEnabled(), f"{button.text()!r} is disabled"
    qtbot.mouseClick(button, Qt.LeftButton)


def set_up(widget: Any, output: Path, tile: tuple[int, ...], halo: tuple[int, ...], **settings: Any) -> None:
    widget.model.settings.set_values(settings)
    widget.tiles.set_values(tile, halo)
    widget.running.output.setText(str(output))


def use_function(widget: Any, source: str) -> None:
    widget.model.choice.setCurrentText("function")
    widget.model.settings.set_values({"source": source})
    assert widget.model.model is not None, widget.model.note.text()
