"""N5 folders, read with tensorstore: a dataset, or a group of levels ``s0``, ``s1`` and so on."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.images.base import ImageReadError
from napari_blockbuster.images.metadata.axes import Request, axes_of_names
from napari_blockbuster.images.metadata.scenes import Scene
from napari_blockbuster.images.places import Place, few
from napari_blockbuster.images.zarr.source import decoded_chunks
from napari_blockbuster.machine.system import tensorstore_path

from .source import FileImage, FileSource, open_scene

__all__ = ["accepts", "open_file", "open_place", "scenes"]

ATTRIBUTES = "attributes.json"


def accepts(place: Place) -> bool:
    path = place.path
    if path is None or not path.is_dir() or any((path / n).exists() for n in ("zarr.json", ".zgroup", ".zarray")):
        return False
    return (path / ATTRIBUTES).is_file() or path.suffix == ".n5" or (path / "s0" / ATTRIBUTES).is_file()


def scenes(place: Place) -> list[Scene]:
    """The image at the place itself, or the images inside a container."""
    root = Path(place.text)
    return [Scene(name, tuple(reversed(_said(_levels(root / name)[0])["dimensions"]))) for name in _images(root)]


def open_place(place: Place, request: Request) -> FileSource:
    found = scenes(place)
    if not found:
        raise ImageReadError(f"{place.text} is an N5 folder without a dataset")
    return open_scene("n5", __name__, place, request, found)


def open_file(path: str, scene: int, level: int) -> FileImage:
    folder = Path(path) / _images(Path(path))[scene]
    paths = _levels(folder)
    arrays = [_N5Array(p) for p in paths]
    shapes = tuple(array.shape for array in arrays)
    sizes, units, axes = _facts(folder, paths[0], len(shapes[0]))
    return FileImage(arrays[min(level, len(arrays) - 1)], axes, shapes, sizes, units, is_cached=True)


def _images(folder: Path) -> list[str]:
    """Paths of datasets and of pyramids inside a folder, "" for the folder itself."""
    if _levels(folder):
        return [""]
    found: list[str] = []
    for inner in sorted(p for p in folder.iterdir() if p.is_dir()):
        # A dataset's own folders are blocks.
        found += [f"{inner.name}/{name}".rstrip("/") for name in _images(inner)]
        if len(found) > 1000:
            raise ImageReadError(f"{folder} holds too many datasets: {few(found)}. Pass the path of one")
    return found


def _levels(folder: Path) -> list[Path]:
    if "dimensions" in _said(folder):
        return [folder]
    names = (folder / f"s{i}" for i in itertools.count())
    return list(itertools.takewhile(lambda path: "dimensions" in _said(path), names))


def _said(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / ATTRIBUTES).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError:
        raise ImageReadError(f"{folder / ATTRIBUTES} is damaged: it is not JSON") from None
    return content if isinstance(content, dict) else {}


def _facts(folder: Path, finest: Path, ndim: int) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """Sizes, units and axes. N5 names the axes of memory in reverse: x first."""
    said = {**_said(folder), **_said(finest)}
    pixel = said.get("pixelResolution")
    values = pixel.get("dimensions") if isinstance(pixel, dict) else pixel or said.get("resolution")
    unit = pixel.get("unit") if isinstance(pixel, dict) else None
    units = said.get("units") if isinstance(said.get("units"), list) else [unit] * ndim
    names = said.get("axes") if isinstance(said.get("axes"), list) else None
    axes = axes_of_names(list(reversed(names))) if names and len(names) == ndim else None
    letters = axes or ("zyx"[-ndim:] if ndim <= 3 else "")
    listed = list(values) if isinstance(values, list) and len(values) == ndim else []
    sizes = dict(zip(letters, reversed(listed), strict=True)) if listed and letters else {}
    return sizes, dict(zip(letters, reversed(units or []), strict=False)), axes


class _N5Array:
    """A dataset with its axes in the order of memory. tensorstore keeps decoded blocks."""

    def __init__(self, folder: Path) -> None:
        import tensorstore as ts

        spec = {"driver": "n5", "kvstore": {"driver": "file", "path": tensorstore_path(folder)}}
        store = ts.open(
            {**spec, "recheck_cached_data": "open"}, open=True, read=True, context=decoded_chunks()
        ).result()
        self._store = store.T
        self.shape, self.dtype = tuple(self._store.shape), store.dtype.numpy_dtype
        chunks = self._store.chunk_layout.read_chunk.shape or self.shape
        self.chunks = tuple(min(c or n, n) for c, n in zip(chunks, self.shape, strict=True))

    def __getitem__(self, index: tuple[slice | int, ...]) -> np.ndarray:
        pixels: np.ndarray = self._store[tuple(index)].read().result()
        return pixels
