"""Networks of StarDist: where they are, which they are, and the one download of those that are not there.

A network is a folder with ``config.json``, ``thresholds.json`` and a file of weights. Nothing here but a download
imports TensorFlow, and in a viewer the download runs in another process.
"""

from __future__ import annotations

import difflib
import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from napari_blockbuster.models.child_process import run_outside_viewer
from napari_blockbuster.models.extras import require

__all__ = ["BUILT_IN", "DEFAULTS", "files_of", "find_network", "import_stardist", "is_path", "obtain_network"]

BUILT_IN = ("2D_versatile_fluo", "2D_versatile_he", "2D_paper_dsb2018", "2D_demo", "3D_demo")
"""Names that StarDist 0.9 downloads."""
DEFAULTS = {2: "2D_versatile_fluo", 3: "3D_demo"}
PREFERRED = ("weights_best.h5", "weights_last.h5")
"""StarDist takes the newest file; a copy of a folder may have other times, so the name decides here."""


def import_stardist() -> ModuleType:
    """The module ``stardist.models``, with a TensorFlow that keeps quiet.

    Raises
    ------
    ImportError
        If stardist or tensorflow is missing; the message says what to install.
    """
    require("stardist")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return importlib.import_module("stardist.models")


def is_path(weights: str) -> bool:
    """Whether a setting means a folder or file rather than a name that StarDist knows."""
    return weights not in BUILT_IN and (Path(weights).name != weights or Path(weights).exists())


def find_network(weights: str) -> Path:
    """The folder of a network; of a name also where it is yet to be downloaded to.

    Raises
    ------
    FileNotFoundError
        If it is a path, and there is no network.
    """
    if is_path(weights):
        path = Path(weights).expanduser().absolute()
        folder = path.parent if path.suffix == ".h5" else path
        if not path.exists():
            raise FileNotFoundError(f"there is no StarDist network at {path}")
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"{folder} is not a StarDist network: it has no config.json; give the folder that StarDist saved"
            )
        return folder
    ndim = weights[:1] if weights[:1] in ("2", "3") else "2"
    base = _keras_folder() / "models" / f"StarDist{ndim}D" / weights
    # Which of them it is depends on the version of Keras that downloaded it.
    places = [base / weights, base / f"{weights}_extracted", base]
    return next((place for place in places if (place / "config.json").is_file()), places[0])


def _keras_folder() -> Path:
    """Where Keras keeps what it downloads: ``KERAS_HOME``, or ``~/.keras``."""
    asked = os.environ.get("KERAS_HOME")
    return Path(asked).expanduser() if asked else Path.home() / ".keras"


def files_of(weights: str, folder: Path) -> list[Path]:
    """The files that make a network: its configuration, thresholds (if any), and last its weights.

    Raises
    ------
    FileNotFoundError
        If there are no weights.
    ValueError
        If there are several, and none has a usual name.
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
                f"{folder} has several files of weights ({', '.join(found)}); give the path of one of them"
            )
        chosen = folder / (usual or found)[0]
    with open(chosen, "rb") as file:
        if file.read(4) != b"\x89HDF":
            raise ValueError(f"{chosen} is not a file of weights that StarDist can read (it is not HDF5)")
    thresholds = folder / "thresholds.json"
    return [folder / "config.json", *([thresholds] if thresholds.is_file() else []), chosen]


def obtain_network(weights: str) -> Path:
    """The folder of a network, after a download if StarDist knows it by name and it is not there yet. Not for workers.

    Raises
    ------
    OSError
        If it cannot be found or downloaded.
    ValueError
        If it is a name that StarDist does not know.
    """
    folder = find_network(weights)
    if (folder / "config.json").is_file():
        return folder
    found: Path = run_outside_viewer(_download, weights, folder)
    return found


def _download(weights: str, folder: Path) -> Path:
    """By StarDist's own means: it knows the address and the digest, and draws a progress bar."""
    models: Any = import_stardist()
    pretrained: Any = importlib.import_module("csbdeep.models.pretrained")
    classes = (models.StarDist2D, models.StarDist3D)
    names = {name: cls for cls in classes for name in pretrained.get_registered_models(cls, return_aliases=False)}
    if weights not in names:
        close = difflib.get_close_matches(weights, names, n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(
            f"stardist has no network {weights!r}{hint}; there are {', '.join(names)}, or give the path of a folder"
        )
    details = pretrained.get_model_details(names[weights], weights)[2]
    try:
        # Keras takes a folder in /tmp where its own does not exist.
        _keras_folder().mkdir(parents=True, exist_ok=True)
        return Path(pretrained.get_model_folder(names[weights], weights))
    except Exception as error:  # Keras raises a bare Exception where an address cannot be reached
        raise OSError(
            f"the StarDist network {weights!r} could not be downloaded from {details['url']} ({error}); unpack that "
            f"archive into {folder}, or give the path of a folder that has it"
        ) from error
