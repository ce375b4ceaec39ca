"""Packages of bioimage.io models: find and download them, and read which tile sizes they accept.

Only a download imports the library of bioimage.io.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import math
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from napari_blockbuster.models.networks.child_process import run_outside_viewer
from napari_blockbuster.models.spacing import round_up

__all__ = ["Geometry", "files_of", "find_package", "is_address", "obtain_package", "read_geometry", "suggested_tile"]

NAMES = ("bioimageio.yaml", "rdf.yaml")
"""Names of the description in a package: since 2024, and before."""
SUFFIXES = (".zip", ".yaml", ".yml")


class Geometry(NamedTuple):
    """Input sizes that a model accepts along each spatial axis.

    Attributes
    ----------
    axes : tuple of str
        Names of all axes of the input, in order: ``batch``, ``channel``, ``z``, ``y``, ``x``.
    least : tuple of int
        The smallest size.
    step : tuple of int
        Sizes are the smallest one plus a multiple of this. 0 if there is only one size.
    channels : int
    """

    axes: tuple[str, ...]
    least: tuple[int, ...]
    step: tuple[int, ...]
    channels: int = 1

    def fitting(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the smallest accepted shape that contains another.

        Raises
        ------
        ValueError
            If there is none.
        """
        fitting = tuple(
            least + (round_up(max(n - least, 0), step) if step else 0)
            for n, least, step in zip(shape, self.least, self.step, strict=True)
        )
        if any(n > f for n, f in zip(shape, fitting, strict=True)):
            raise ValueError(
                f"a tile with its halo has {shape} voxels, and the model takes at most {fitting}. Use smaller tiles "
                "(tile_shape) or a smaller halo"
            )
        return fitting


def is_address(weights: str) -> bool:
    """Return whether a setting is a web address, a DOI or a name at bioimage.io, and not a file or folder."""
    if "://" in weights:
        return True
    looks_local = weights.endswith(SUFFIXES) or weights.startswith((".", "/", "~")) or os.sep + os.sep in weights
    return not looks_local and not Path(weights).exists()


def find_package(weights: str) -> Path:
    """Return the zip file or the description (YAML) of a model on this machine.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    path = Path(weights).expanduser().absolute()
    if path.is_dir():
        inside = [path / name for name in NAMES if (path / name).is_file()]
        if not inside:
            raise FileNotFoundError(f"the folder {path} has no description of a model ({' or '.join(NAMES)})")
        return inside[0]
    if not path.is_file():
        raise FileNotFoundError(f"there is no bioimage.io model at {path}")
    return path


def obtain_package(weights: str) -> Path:
    """Return the package of a model, and download it if an address or name is given. Not for workers.

    Raises
    ------
    OSError
        If it cannot be found or downloaded.
    """
    if not is_address(weights):
        return find_package(weights)
    path: Path = run_outside_viewer(_download, weights)
    return path


def _download(weights: str) -> Path:
    """Return the package of an address or name. It is downloaded once."""
    library: Any = importlib.import_module("bioimageio.spec")
    settings: Any = importlib.import_module("bioimageio.spec").settings
    folder = Path(settings.cache_path) / "napari-blockbuster"
    path = folder / f"{hashlib.sha256(weights.encode()).hexdigest()[:24]}.zip"
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part.zip")
            library.save_bioimageio_package(weights, output_path=part)
            os.replace(part, path)
        except Exception as error:  # there are many errors, and most are not documented
            reason = str(error).strip().partition("\n")[0]
            raise OSError(
                f"there is no file {weights!r}, and no bioimage.io model could be downloaded from there ({reason}). Give "
                "the path of a package (zip), or its address"
            ) from error
    return path


def files_of(path: Path) -> list[Path]:
    """Return the files of a model: a zip file, or all files beside a description."""
    if path.suffix == ".zip":
        return [path]
    return sorted(p for p in path.parent.iterdir() if p.is_file() and not p.name.startswith("."))


def read_geometry(path: Path) -> Geometry:
    """Read the input sizes that a model accepts.

    Raises
    ------
    ValueError
        If it is not a model with one input of channels and spatial axes.
    """
    status = path.stat()
    return _geometry(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _geometry(path: Path, size: int, changed: int) -> Geometry:
    try:
        description = _read(path)
        inputs = description["inputs"]
        if len(inputs) != 1:
            raise ValueError(f"it takes {len(inputs)} images at once")
        axes = inputs[0]["axes"]
        if isinstance(axes, str):
            return _geometry_of_2022(axes, inputs[0]["shape"])
        return _geometry_of_axes(axes)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise ValueError(f"{path} is not a bioimage.io model that can be used here: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    import yaml

    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as packed:
            name = next((n for n in packed.namelist() if n in NAMES or n.endswith(".bioimageio.yaml")), None)
            if name is None:
                raise ValueError(f"the archive has no {' or '.join(NAMES)}")
            text = packed.read(name).decode()
    else:
        text = path.read_text("utf-8")
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"its description is not YAML ({str(error).partition(chr(10))[0]})") from error
    if not isinstance(found, dict) or found.get("type") != "model":
        raise ValueError("its description is not that of a model")
    return found


def _geometry_of_axes(axes: list[dict[str, Any]]) -> Geometry:
    """Return the geometry in a description of format 0.5."""
    names, least, step, channels = [], [], [], 1
    for axis in axes:
        names.append(str(axis.get("id", axis["type"])))
        if axis["type"] == "channel":
            channels = len(axis["channel_names"])
        if axis["type"] in ("batch", "channel"):
            continue
        if axis["type"] != "space":
            raise ValueError(f"it has an axis of {axis['type']}")
        size = axis["size"]
        if isinstance(size, dict) and "min" not in size:
            raise ValueError(f"the size of its axis {names[-1]} depends on that of another")
        least.append(int(size["min"]) if isinstance(size, dict) else int(size))
        step.append(int(size["step"]) if isinstance(size, dict) else 0)
    return _checked(names, least, step, channels)


def _geometry_of_2022(axes: str, shape: Any) -> Geometry:
    """Return the geometry in a description of format 0.4, which names axes by letters."""
    words = {"b": "batch", "c": "channel"}
    names = [words.get(a, a) for a in axes]
    fixed = isinstance(shape, list)
    least, step = (shape, [0] * len(shape)) if fixed else (shape["min"], shape["step"])
    channels = int(least[names.index("channel")]) if "channel" in names else 1
    spatial = [i for i, name in enumerate(names) if name in "zyx"]
    return _checked(names, [int(least[i]) for i in spatial], [int(step[i]) for i in spatial], channels)


def _checked(names: list[str], least: list[int], step: list[int], channels: int) -> Geometry:
    spatial = [name for name in names if name not in ("batch", "channel")]
    if spatial not in (["y", "x"], ["z", "y", "x"]):
        raise ValueError(f"the axes of its images are {', '.join(spatial) or 'none'}, and not y, x or z, y, x")
    return Geometry(tuple(names), tuple(least), tuple(step), channels)


def suggested_tile(geometry: Geometry, shape: tuple[int, ...], wish: tuple[float, ...], side: int) -> Any:
    """Return a tile and a halo of about `wish` whose read box the model accepts."""
    halo, tile = [], []
    for n, least, step, h in zip(shape, geometry.least, geometry.step, wish, strict=True):
        # With a fixed size, the halo takes at most a third of the tile on each side.
        reach = min(math.ceil(h), (least - 1) // 3) if step == 0 else round_up(h, step)
        read = least if step == 0 else least + round_up(max(side, reach) + 2 * reach - least, step)
        halo.append(reach)
        tile.append(min(n, max(read - 2 * reach, 1)))
    return tuple(tile), tuple(halo)
