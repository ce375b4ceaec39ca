"""Networks of InstanSeg: find them, check them, and download them if they are missing.

InstanSeg downloads a network when it is first used, which a worker must not do. It is therefore only given networks that
were loaded from a file. Only `check_network` imports torch.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from napari_blockbuster.machine.units import count_text
from napari_blockbuster.models.extras import require
from napari_blockbuster.models.networks.memory import reason_of
from napari_blockbuster.models.networks.weights import download, given_path, unknown_network
from napari_blockbuster.models.networks.weights import is_file_path as is_path

__all__ = ["Facts", "check_network", "find_network", "is_path", "obtain_network"]

FILE = "instanseg.pt"
PROBE = 64
"""Side of the blank test image."""


class Facts(NamedTuple):
    """Properties of a network: pixel size in micrometers, and whether it finds both nuclei and cells."""

    pixel_size: float
    both: bool


def _package_folder() -> Path:
    require("instanseg")
    spec = importlib.util.find_spec("instanseg")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "bioimageio_models"


def networks_folder() -> Path:
    """Return the folder where InstanSeg keeps networks: ``INSTANSEG_BIOIMAGEIO_PATH``, or a folder inside its package."""
    asked = os.environ.get("INSTANSEG_BIOIMAGEIO_PATH")
    return Path(asked).expanduser() if asked else _package_folder()


def _index() -> dict[str, dict[str, str]]:
    """Return the networks that the installed InstanSeg can download, in their newest versions."""
    entries = json.loads((_package_folder() / "model-index.json").read_text("utf-8"))
    return {entry["name"]: entry for entry in reversed(entries)}


def find_network(weights: str) -> Path:
    """Return the file of a network. It may not be downloaded yet.

    Raises
    ------
    FileNotFoundError
        If the setting is a path without a file.
    ValueError
        If InstanSeg has no network of that name.
    """
    if is_path(weights):
        return given_path(weights, "there is no InstanSeg network")
    index, folder = _index(), networks_folder().absolute()
    if weights in index:
        return folder / weights / index[weights]["version"] / FILE
    path = folder / weights / FILE
    if not path.is_file():
        raise unknown_network("instanseg", "network", weights, index, f"the path of a file ({FILE})")
    return path


def obtain_network(weights: str) -> Path:
    """Return the file of a network, and download it if it is missing. For the driver, never for workers.

    Raises
    ------
    OSError
        If it cannot be found or downloaded.
    ValueError
        If InstanSeg has no network of that name.
    """
    path = find_network(weights)
    if not path.is_file():
        url = _index()[weights]["url"]
        try:
            _download(url, path, f"network {weights}")
        except (OSError, zipfile.BadZipFile) as error:
            raise OSError(
                f"the InstanSeg network {weights!r} could not be downloaded from {url} ({error}). Put its {FILE} at "
                f"{path}, or name a folder that has it in INSTANSEG_BIOIMAGEIO_PATH"
            ) from error
    return path


def _download(url: str, path: Path, what: str) -> None:
    """Download and unpack. The network is moved last: a folder that contains it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
        archive = Path(folder) / "network.zip"
        download(url, archive, what)
        with zipfile.ZipFile(archive) as packed:
            if FILE not in packed.namelist():
                raise OSError(f"the archive has no {FILE}")
            packed.extractall(Path(folder) / "unpacked")
        others = [p for p in (Path(folder) / "unpacked").iterdir() if p.name != FILE]
        for other in others:
            shutil.move(other, path.parent / other.name)
        os.replace(Path(folder) / "unpacked" / FILE, path)


def check_network(path: Path, n_channels: int = 1) -> Facts:
    """Load a network on the CPU and run it on a blank image of some channels.

    Raises
    ------
    ValueError
        If the file is not an InstanSeg network, or one for another number of channels.
    """
    import torch

    try:
        network: Any = torch.jit.load(path, map_location="cpu")
        facts = Facts(float(network.pixel_size), bool(network.cells_and_nuclei))
    except (RuntimeError, AttributeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{path} is not a network that InstanSeg can read ({reason}). Give its {FILE}, a TorchScript file"
        ) from error
    try:
        network(torch.zeros(1, n_channels, PROBE, PROBE))
    except RuntimeError as error:
        raise ValueError(
            f"the InstanSeg network {path} cannot be used with {count_text(n_channels, 'channel')} ({reason_of(error)}). "
            "Choose other channels, channel= (--channel), or set weights to another network"
        ) from error
    return facts
