"""Reader of job folders that are opened in napari."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_blockbuster.job.folder.job_folder import JobFolder

__all__ = ["job_reader"]


def job_reader(path: str | list[str]) -> Callable[[Any], list[tuple[None]]] | None:
    """Return the reader of a job folder; None for other paths."""
    if not isinstance(path, str) or not JobFolder(Path(path)).is_job():
        return None
    return _open


def _open(path: Any) -> list[tuple[None]]:
    import napari
    from qtpy.QtCore import QTimer

    from .commands import open_job

    viewer = napari.current_viewer()
    if viewer is None:
        raise RuntimeError(
            "A job folder can only be opened in a viewer. To read its labels in a script, use Job.open(folder)."
        )
    # Open the job after napari has finished with this path. The job adds its own layers.
    QTimer.singleShot(0, lambda: open_job(viewer, path))
    return [(None,)]
