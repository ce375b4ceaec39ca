"""Job folders that are dropped on napari."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_blockbuster.job.folder import JobFolder

__all__ = ["job_reader"]


def job_reader(path: str | list[str]) -> Callable[[Any], list[tuple[None]]] | None:
    """The reader of a job folder; None for anything else."""
    if not isinstance(path, str) or not JobFolder(Path(path)).is_job():
        return None
    return _open


def _open(path: Any) -> list[tuple[None]]:
    import napari
    from qtpy.QtCore import QTimer

    from .commands import open_job

    viewer = napari.current_viewer()
    if viewer is None:
        raise RuntimeError("a job folder opens in a viewer; to read its labels in a script, use Job.open(folder)")
    # napari is in the middle of opening; the job adds its layers by itself.
    QTimer.singleShot(0, lambda: open_job(viewer, path))
    return [(None,)]
