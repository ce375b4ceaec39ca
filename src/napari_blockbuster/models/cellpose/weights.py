"""Weights of Cellpose: find them, check them, and download them if they are missing.

If Cellpose cannot find the weights that it was asked for, it downloads its default weights. It is therefore only given
paths of files that exist.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from napari_blockbuster.models.networks.weights import download, given_path, is_file_path, unknown_network

from .imports import import_cellpose

__all__ = [
    "BUILT_IN",
    "check_weights",
    "find_weights",
    "is_path",
    "models_folder",
    "obtain_weights",
    "ready_weights",
    "weights_bytes",
]

BUILT_IN = ("cpsam_v2", "cpsam", "cpdino", "cpdino-vitb")
"""Names of weights that Cellpose 4.2 can download."""
FULL_BYTES = 1_230_000_000
"""Size of a built-in network that is not downloaded yet: 305 million float32 numbers."""
OLD = (
    "Cellpose 4 cannot run the networks of Cellpose 3 and earlier. Train again with Cellpose 4, or run the old weights "
    "with cellpose<4 in an environment of its own, through a function (file.py:function)"
)


def models_folder() -> Path:
    """Return the folder where Cellpose keeps weights: ``CELLPOSE_LOCAL_MODELS_PATH``, or ``~/.cellpose/models``."""
    asked = os.environ.get("CELLPOSE_LOCAL_MODELS_PATH")
    return Path(asked) if asked else Path.home() / ".cellpose" / "models"


def is_path(weights: str) -> bool:
    """Return whether a setting is the path of a file, and not a name in Cellpose's folder."""
    return is_file_path(weights, BUILT_IN)


def find_weights(weights: str) -> Path:
    """Return the path of weights. For built-in weights the file may not be downloaded yet.

    Raises
    ------
    FileNotFoundError
        If the setting is a path without a file.
    ValueError
        If Cellpose has no weights of that name.
    """
    folder = models_folder()
    if is_path(weights) and not (folder / weights).is_file():
        return given_path(weights, "there are no weights")
    path = folder / weights
    if weights not in BUILT_IN and not path.is_file():
        known = [*BUILT_IN, *_own_models(folder)]
        raise unknown_network("cellpose", "weights", weights, known, "the path of a file")
    return path.absolute()


def weights_bytes(weights: str) -> int:
    """Return the size of weights on disk, which is also their size in memory in float32. 0 if there is no such file."""
    try:
        path = find_weights(weights)
        return path.stat().st_size
    except (OSError, ValueError):
        return FULL_BYTES if weights in BUILT_IN else 0


def _own_models(folder: Path) -> list[str]:
    """Return the names that Cellpose's own interface lists, if the weights exist."""
    listing = folder / "gui_models.txt"
    names = listing.read_text("utf-8").splitlines() if listing.is_file() else []
    return [name for name in map(str.strip, names) if name and (folder / name).is_file()]


def obtain_weights(weights: str) -> Path:
    """Return the path of weights, and download built-in weights that are missing. For the driver, never for workers.

    Raises
    ------
    OSError
        If they cannot be found or downloaded.
    ValueError
        If Cellpose has no weights of that name.
    """
    path = find_weights(weights)
    if not path.is_file():
        _download(weights, path)
    return path


def ready_weights(weights: str) -> Path:
    """Return the path of weights that this version of Cellpose can load, and download them if they are missing.

    Raises
    ------
    ImportError, OSError, ValueError
        See `import_cellpose`, `obtain_weights` and `check_weights`.
    """
    import_cellpose()
    path = obtain_weights(weights)
    check_weights(path)
    return path


def _download(name: str, path: Path) -> None:
    models: Any = import_cellpose()
    url = models._MODEL_URL + name
    try:
        download(url, path, f"weights {name}")
    except OSError as error:
        raise OSError(
            f"the weights {name!r} could not be downloaded from {url} ({error}). Put the file at {path}, or name a "
            "folder that has it in CELLPOSE_LOCAL_MODELS_PATH"
        ) from error


def check_weights(path: Path) -> None:
    """Refuse a file that this version of Cellpose cannot load, without loading the network.

    Raises
    ------
    ValueError
        If it holds something else, or weights of Cellpose 3.
    ImportError
        If the network needs a package that is not installed.
    """
    import torch

    models: Any = import_cellpose()
    try:
        # Memory mapping avoids reading 1.2 GB.
        state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is not a file of weights that Cellpose 4 can read ({reason}). {OLD}") from error
    if not isinstance(state, dict) or "W2" not in state:
        raise ValueError(f"{path} does not hold weights of Cellpose 4. {OLD}")
    if "encoder.cls_token" in state and not hasattr(models, "CPDINO"):
        raise ImportError(
            f"the weights {path.name} need the package dinov3 of Facebook Research, which is not on PyPI. Cellpose's "
            "documentation says how to install it"
        )
