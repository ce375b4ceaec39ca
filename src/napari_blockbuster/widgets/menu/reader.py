"""Reader of job folders and label images that are opened in napari."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_blockbuster.job.folder.job_folder import JobFolder
from napari_blockbuster.widgets.layers.of_job.live_layer import RESULT
from napari_blockbuster.widgets.layers.viewer_layers import make_savable, protect

__all__ = ["job_reader"]

TURNED = (
    "The image of these labels was rotated, sheared or flipped in napari, and so are the labels. OME-Zarr does not store "
    "this, so other programs show them without it."
)


def job_reader(path: str | list[str]) -> Callable[[Any], list[Any]] | None:
    """Return the reader of a job folder or of labels that a job has written; None for other paths."""
    if not isinstance(path, str):
        return None
    if JobFolder(Path(path)).is_job():
        return _open
    return _open_labels if _is_result(Path(path)) else None


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


def _is_result(path: Path) -> bool:
    from napari_blockbuster.output.label_image import labels_info

    if not any((path / name).is_file() for name in ("zarr.json", ".zattrs")):
        return False
    try:
        return bool(labels_info(path)["provenance"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _open_labels(path: Any) -> list[tuple[Any, dict[str, Any], str]]:
    """Return the levels of a label image, lazily, with its whole place."""
    from napari.utils.notifications import show_info

    from napari_blockbuster.output.label_image import labels_info, open_labels

    info = labels_info(path)
    ndim = len(info["axes"])
    levels = [open_labels(path, level) for level in range(len(info["shapes"]))]
    options: dict[str, Any] = {
        "name": Path(path).name.removesuffix(".ome.zarr"),
        "multiscale": len(levels) > 1,
        "scale": info["scales"][0],
        "translate": info["translation"] or [0.0] * ndim,
        "units": [unit or "pixel" for unit in info["units"]],
    }
    options["metadata"] = {RESULT: str(path)}
    _make_savable(str(path))
    if info["affine"]:
        options["affine"] = info["affine"]
        show_info(TURNED)
    return [(levels if len(levels) > 1 else levels[0], options, "labels")]


def _make_savable(path: str) -> None:
    """Let napari save the layer of these labels, once it is in the viewer, and not paint on it: the file would not change."""
    import napari

    viewer = napari.current_viewer()
    if viewer is None:
        return

    def inserted(event: Any) -> None:
        if event.value.metadata.get(RESULT) == path:
            viewer.layers.events.inserted.disconnect(inserted)
            make_savable(event.value)
            protect(event.value)

    viewer.layers.events.inserted.connect(inserted)
