"""Row of buttons at the bottom of the dock: open a job, copy a script, take the tour."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QMenu, QPushButton, QWidget

from napari_blockbuster.widgets.controls import button, row_of

__all__ = ["tools"]


def tools(open_job: Callable[[], object], copy: Callable[[str], object], take_tour: Callable[[], object]) -> QWidget:
    """Return the row. `copy` is called with the kind of the script, ``"python"`` or ``"command"``."""
    script = QPushButton("Copy as script")
    script.setToolTip("Copy a script or a command that repeats this run without a viewer, on any machine.")
    menu = QMenu(script)
    menu.addAction("Python", lambda: copy("python"))
    menu.addAction("Command line", lambda: copy("command"))
    script.setMenu(menu)
    row = row_of(
        button("Open job…", "Open a paused or finished run from its folder (name.job).", open_job),
        script,
        button("Take the tour", "Six steps on a sample image, each pointing at its button.", take_tour),
    )
    row.layout().setContentsMargins(8, 0, 8, 6)
    return row
