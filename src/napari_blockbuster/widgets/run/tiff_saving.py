"""Save the written labels of a run as TIFF, in a thread."""

from __future__ import annotations

from pathlib import Path

from napari.utils.notifications import show_info, show_warning

from napari_blockbuster.output.tiff_export import export_tiff
from napari_blockbuster.widgets.run.control.control import RunControl
from napari_blockbuster.widgets.run.control.events import Stopped
from napari_blockbuster.widgets.runner import in_thread

__all__ = ["save_tiff"]


def save_tiff(labels: Path, path: str | Path, control: RunControl) -> None:
    """Save labels, and show the progress in the status line. It ends when the job is closed."""
    life, generation, name = control.life, control.life.generation, Path(path).name
    shown = -1

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if life.generation != generation:
            raise Stopped
        percent = 100 * done // total
        if percent > shown:
            shown = percent
            # Qt delivers the signal in the GUI thread.
            control.status.emit(f"Saving {name}: {percent} %")

    def failed(error: Exception) -> None:
        if not isinstance(error, Stopped):
            control.status.emit(f"{name} was not saved")
            show_warning(f"{name} could not be saved: {error}")

    def saved(made: Path) -> None:
        control.status.emit(f"Saved {name}")
        show_info(f"Labels saved to {made}")

    in_thread(lambda: export_tiff(labels, path, overwrite=True, progress=progress), saved, failed, owner=control)
