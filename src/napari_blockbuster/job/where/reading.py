"""Read where to segment, in any of the forms in which users say it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.geometry.roi import Roi
from napari_blockbuster.geometry.roi.box_part import BoxPart
from napari_blockbuster.geometry.roi.mask_part import MaskPart
from napari_blockbuster.geometry.roi.polygon_part import PolygonPart
from napari_blockbuster.geometry.tiles import Box, TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.job.folder.files import JobFiles
from napari_blockbuster.job.folder.where import Where
from napari_blockbuster.machine.units import count_text

from .boxes import is_box, read_box
from .frame import Frame
from .geojson import load_geojson, read_polygons
from .masks import read_mask

__all__ = ["default_inside", "read_roi"]

TILES = "tiles:"
GEOJSON = (".geojson", ".json")


def read_roi(where: Any, source: ImageSource, grid: TileGrid) -> tuple[Roi | None, str]:
    """Return the region of interest that a user means, and its name for messages; None for everywhere.

    Parameters
    ----------
    where : object
        A path (mask, label image, GeoJSON, ``where.json`` of a job), an array, a dict of GeoJSON, a `Box`, text for a box or
        for tiles, indices of tiles, a `Roi`, or a list of some of these, which are united. None: everywhere.
    source : ImageSource
        The image.
    grid : TileGrid
        The tiles of the run.

    Raises
    ------
    ValueError
        If it cannot be read, if it is empty, or if no voxel of the image is inside. The message says which.
    """
    if where is None:
        return None, ""
    roi, name = _read(where, Frame.of(source), grid)
    if roi.is_empty:
        raise ValueError(
            f"The region of interest is empty: {name} holds no voxel. Choose a region, or leave out where= (--where) to "
            "segment everything."
        )
    if not (roi.bounds().size and (roi.coverage(grid) > 0).any()):
        if any(isinstance(part, PolygonPart) and part.is_near for part in roi.parts):
            raise ValueError(
                f"The region of interest ({name}) holds the center of no voxel of the image. A voxel is inside if its center is: "
                "draw a larger polygon."
            )
        raise ValueError(
            f"The region of interest ({name}) lies outside the image, whose shape is {Frame.of(source).named()}. Check its "
            "offset, its unit and its resolution."
        )
    return roi, name


def default_inside(where: Any) -> str:
    """Return what becomes of objects at the edge of a region if the user does not say.

    Of chosen tiles, all objects are kept: nobody drew an edge.
    """
    chosen = isinstance(where, str) and where.startswith(TILES)
    chosen |= isinstance(where, list | tuple | set | range | np.ndarray) and all(map(_is_index, where))
    return "touching" if chosen else "centroid"


def _is_index(item: Any) -> bool:
    """Whether this is the number of a tile. True and False are numbers in Python, and none here."""
    return isinstance(item, int | np.integer) and not isinstance(item, bool)


def _read(where: Any, frame: Frame, grid: TileGrid) -> tuple[Roi, str]:
    if isinstance(where, Roi):
        return _of_image(where, grid), "region"
    if isinstance(where, Box):
        return Roi(grid.shape, (BoxPart(_with_time(where, grid)),)), f"box {where}"
    if isinstance(where, Mapping):
        return Roi(grid.shape, (read_polygons(where, frame, "The GeoJSON"),)), "polygons"
    if isinstance(where, str | os.PathLike):
        return _read_text(os.fspath(where), frame, grid)
    if getattr(where, "shape", None) is not None and getattr(where, "ndim", 0) >= 2:
        return Roi(grid.shape, (read_mask(where, frame, "The mask"),)), "mask"
    if isinstance(where, ImageSource):
        return Roi(grid.shape, (read_mask(where, frame, where.name),)), where.name
    return _read_several(where, frame, grid)


def _of_image(roi: Roi, grid: TileGrid) -> Roi:
    if roi.shape != grid.shape:
        raise ValueError(f"The region of interest is of an image of shape {roi.shape}, not {grid.shape}.")
    return roi


def _read_text(text: str, frame: Frame, grid: TileGrid) -> tuple[Roi, str]:
    if text.startswith(TILES):
        return _of_tiles(_indices(text, len(grid)), grid)
    if is_box(text) and not os.path.exists(text):
        return Roi(grid.shape, (read_box(text, frame),)), f"box {text}"
    if Path(text).name == JobFiles(Path()).where.name and os.path.isfile(text):
        return _of_job(Path(text), grid)
    if Path(text).suffix.lower() in GEOJSON and os.path.isfile(text):
        return Roi(grid.shape, (read_polygons(load_geojson(Path(text)), frame, text),)), text
    if "://" not in text and not os.path.exists(text):
        raise ValueError(
            f"where is {text!r}, which is neither a file nor a box. Give a mask, a GeoJSON file, a box such as "
            f"{','.join('0:100' for axis in frame.axes if axis != 't')}, or tiles such as {TILES}0,5,8-12."
        )
    return Roi(grid.shape, (read_mask(text, frame, text),)), text


def _of_job(path: Path, grid: TileGrid) -> tuple[Roi, str]:
    """The region in the folder of a job."""
    roi = Where.load(path).roi
    if roi is None:
        raise ValueError(f"{path} holds no region of interest: the job segments everything.")
    return _of_image(roi, grid), str(path)


def _read_several(where: Any, frame: Frame, grid: TileGrid) -> tuple[Roi, str]:
    several = isinstance(where, Sequence | set | frozenset | range | np.ndarray) and not isinstance(where, bytes)
    items = list(where) if several else None
    if items is None or _is_nested(items) or any(isinstance(item, bool | np.bool_) for item in items):
        raise TypeError(
            f"where is of type {type(where).__name__}{_content(items)}. Give a path, an array, GeoJSON, a box such as "
            "'0:100,0:200', or indices of tiles. A mask must be an array with the axes of the image."
        )
    if not items:
        raise ValueError(
            "The region of interest is empty: where is an empty list. Leave out where= (--where) to segment everything."
        )
    if all(map(_is_index, items)):
        return _of_tiles(items, grid)
    if all(isinstance(item, Mapping) for item in items):
        return Roi(grid.shape, (read_polygons(items, frame, "The GeoJSON"),)), "polygons"
    found = [_read(item, frame, grid) for item in items]
    roi = found[0][0]
    for other, _ in found[1:]:
        roi = roi | other
    return roi, " and ".join(name for _, name in found)


def _is_nested(items: Sequence[Any]) -> bool:
    """Whether these are the rows of a mask, which would be taken for tiles."""
    return len(items) > 0 and all(isinstance(item, list | tuple) for item in items)


def _content(items: Sequence[Any] | None) -> str:
    return f" and holds {type(items[0]).__name__}" if items else ""


def _of_tiles(indices: Sequence[int], grid: TileGrid) -> tuple[Roi, str]:
    tiles = sorted({int(index) for index in indices})
    for index in (tiles[0], tiles[-1]):
        if not 0 <= index < len(grid):
            raise ValueError(f"where names tile {index}, and the image has tiles 0 to {len(grid) - 1}.")
    return Roi(grid.shape, (MaskPart.of_tiles(tiles, grid),)), count_text(len(tiles), "tile")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _indices(text: str, n_tiles: int) -> list[int]:
    """The tiles in text such as ``tiles:0,5,8-12``."""
    found: list[int] = []
    for part in text.removeprefix(TILES).split(","):
        first, dash, last = part.strip().partition("-")
        if not _is_number(first) or (dash and not _is_number(last)) or int(last or first) < int(first):
            raise ValueError(f"{part!r} in {text!r} is no tile. Use numbers and ranges, such as {TILES}0,5,8-12.")
        if int(last or first) >= n_tiles:
            raise ValueError(f"where names tile {last or first}, and the image has tiles 0 to {n_tiles - 1}.")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def _with_time(box: Box, grid: TileGrid) -> Box:
    """A box of the spatial axes, at all times."""
    missing = grid.ndim - len(box.start)
    if missing not in (0, grid.separate_axes):
        raise ValueError(f"The box {box} has {len(box.start)} axes, and the image has {grid.ndim}.")
    return Box((0,) * missing + box.start, grid.shape[:missing] + box.stop)
