"""Networks of StarDist: find them, check them, and download them if they are missing.

A network is a folder with ``config.json``, ``thresholds.json`` and a file of weights. Only a download imports
TensorFlow. In a viewer it runs in a child process.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from napari_blockbuster.models.extras import require
from napari_blockbuster.models.networks.child_process import run_outside_viewer
from napari_blockbuster.models.networks.weights import given_path, unknown_network

__all__ = [
    "BUILT_IN",
    "DEFAULTS",
    "FOR_COLORS",
    "files_of",
    "find_network",
    "import_stardist",
    "is_path",
    "obtain_network",
]

BUILT_IN = ("2D_versatile_fluo", "2D_versatile_he", "2D_paper_dsb2018", "2D_demo", "3D_demo")
"""Names of networks that StarDist 0.9 can download."""
FOR_COLORS = ("2D_versatile_he",)
"""Those of them that look at the colors of stained tissue."""
DEFAULTS = {2: "2D_versatile_fluo", 3: "3D_demo"}
PREFERRED = ("weights_best.h5", "weights_last.h5")
"""StarDist loads the newest file. Copied folders may have other times, so here the name decides."""


def import_stardist() -> ModuleType:
    """Import and return ``stardist.models``, with TensorFlow's log messages off.

    Raises
    ------
    ImportError
        If stardist or tensorflow is missing. The message says what to install.
    """
    require("stardist")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return importlib.import_module("stardist.models")


def is_path(weights: str) -> bool:
    """Return whether a setting is the path of a folder or file, and not a name that StarDist knows."""
    return weights not in BUILT_IN and (Path(weights).name != weights or Path(weights).exists())


def find_network(weights: str) -> Path:
    """Return the folder of a network. A named network may not be downloaded yet.

    Raises
    ------
    FileNotFoundError
        If the setting is a path without a network.
    """
    if is_path(weights):
        path = given_path(weights, "there is no StarDist network")
        folder = path.parent if path.suffix == ".h5" else path
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"{folder} is not a StarDist network: it has no config.json. Give the folder that StarDist saved"
            )
        return folder
    ndim = weights[:1] if weights[:1] in ("2", "3") else "2"
    base = _keras_folder() / "models" / f"StarDist{ndim}D" / weights
    # The place depends on the version of Keras that downloaded the network.
    places = [base / weights, base / f"{weights}_extracted", base]
    return next((place for place in places if (place / "config.json").is_file()), places[0])


def _keras_folder() -> Path:
    """Return the folder where Keras keeps downloads: ``KERAS_HOME``, or ``~/.keras``."""
    asked = os.environ.get("KERAS_HOME")
    return Path(asked).expanduser() if asked else Path.home() / ".keras"


def files_of(weights: str, folder: Path) -> list[Path]:
    """Return the files of a network: configuration, thresholds (if any), and last the weights.

    Raises
    ------
    FileNotFoundError
        If there are no weights.
    ValueError
        If there are several and none has a usual name, or if they are not HDF5.
    """
    given = Path(weights)
    if is_path(weights) and given.suffix == ".h5":
        chosen = folder / given.name
    else:
        found = sorted(path.name for path in folder.glob("*.h5"))
        usual = [name for name in PREFERRED if name in found]
        if not found:
            raise FileNotFoundError(f"the StarDist network at {folder} has no weights (*.h5)")
        if not usual and len(found) > 1:
            raise ValueError(
                f"{folder} has several files of weights ({', '.join(found)}). Give the path of one of them"
            )
        chosen = folder / (usual or found)[0]
    with open(chosen, "rb") as file:
        if file.read(4) != b"\x89HDF":
            raise ValueError(f"{chosen} is not a file of weights that StarDist can read (it is not HDF5)")
    thresholds = folder / "thresholds.json"
    return [folder / "config.json", *([thresholds] if thresholds.is_file() else []), chosen]


def obtain_network(weights: str) -> Path:
    """Return the folder of a network, and download a named network if it is missing. Not for workers.

    Raises
    ------
    OSError
        If it cannot be found or downloaded.
    ValueError
        If StarDist has no network of that name.
    """
    folder = find_network(weights)
    if (folder / "config.json").is_file():
        return folder
    found: Path = run_outside_viewer(_download, weights, folder)
    return found


def _download(weights: str, folder: Path) -> Path:
    """Download with StarDist, which knows the address and digest and draws a progress bar."""
    models: Any = import_stardist()
    pretrained: Any = importlib.import_module("csbdeep.models.pretrained")
    classes = (models.StarDist2D, models.StarDist3D)
    names = {name: cls for cls in classes for name in pretrained.get_registered_models(cls, return_aliases=False)}
    if weights not in names:
        raise unknown_network("stardist", "network", weights, names, "the path of a folder")
    details = pretrained.get_model_details(names[weights], weights)[2]
    try:
        # Keras uses a folder in /tmp if its own does not exist.
        _keras_folder().mkdir(parents=True, exist_ok=True)
        return Path(pretrained.get_model_folder(names[weights], weights))
    except Exception as error:  # Keras raises a bare Exception if it cannot reach an address
        raise OSError(
            f"the StarDist network {weights!r} could not be downloaded from {details['url']} ({error}). Unpack that "
            f"archive into {folder}, or give the path of a folder that has it"
        ) from error
