"""Save merged labels as OME-TIFF or plain TIFF, tile by tile."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_blockbuster.geometry.tiles import Box
from napari_blockbuster.images import open_image
from napari_blockbuster.images.metadata.sizes import conversion
from napari_blockbuster.machine.disk import writing_to
from napari_blockbuster.machine.files import beside, discard
from napari_blockbuster.machine.system import replace

from .label_image import labels_info

__all__ = ["TIFF_SUFFIXES", "LabelSource", "export_tiff", "tiff_beside"]

TIFF_SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff")
TILE = 512
AHEAD = 4
"""Tiles that are read while another one is compressed."""
CLASSIC_LIMIT = 2**32 - 2**25
"""Bytes. Larger files are BigTIFF."""
OME_UNITS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "angstrom": "Å", "meter": "m", "second": "s"}
CENTIMETER = 3
"""TIFF's number for resolutions per centimeter."""


class Level(Protocol):
    """Labels of one level, read box by box. `ImageSource` is one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, box: Box) -> np.ndarray: ...


@dataclass(frozen=True)
class LabelSource:
    """Labels that can be read box by box, and their place.

    Attributes
    ----------
    levels : sequence of Level
        Finest level first.
    axes : str
        Names of the axes.
    scale : sequence of float
        Size of a voxel of the finest level.
    units : sequence of str or None
    highest : int or None
        Largest label; None if it is unknown.
    image : str or None
        Path of the segmented image, which is never replaced.
    """

    levels: Sequence[Level]
    axes: str
    scale: Sequence[float]
    units: Sequence[str | None]
    highest: int | None = None
    image: str | None = None

    @classmethod
    def of(cls, path: str | Path) -> LabelSource:
        """Open merged labels that were written as OME-Zarr.

        Raises
        ------
        FileNotFoundError, ValueError
            If there are no labels.
        """
        info = labels_info(path)
        levels = [open_image(str(path), level=level) for level in range(len(info["shapes"]))]
        said = info["provenance"]
        merge = said.get("merge", {})
        # Ids are 1..n, unless an object kept the number of its first label.
        highest = merge.get("labels", merge.get("objects"))
        return cls(
            levels, "".join(info["axes"]), info["scales"][0], info["units"], highest, said.get("image", {}).get("path")
        )


def tiff_beside(labels: Path) -> Path:
    """Return ``<labels>.ome.tif`` next to merged labels."""
    name = labels.name
    for suffix in (".ome.zarr", ".zarr"):
        name = name.removesuffix(suffix)
    return labels.with_name(f"{name}.ome.tif")


def export_tiff(
    labels: str | Path | LabelSource,
    path: str | Path,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Save labels as a TIFF file. Memory holds a few tiles and a cache of decoded chunks, whatever the size of the image.

    Parameters
    ----------
    labels : path, Result.path or LabelSource
        Merged labels (OME-Zarr).
    path : path
        ``.ome.tif`` or ``.ome.tiff``: OME-TIFF with the size of a voxel, and with the coarser levels that have as many planes.
        ``.tif`` or ``.tiff``: plain TIFF with its resolution. Files above 4 GB are BigTIFF.
    overwrite : bool, default False
        Replace an existing file.
    progress : callable, optional
        ``progress(done, total)`` in tiles. If it raises, the incomplete file is deleted.

    Returns
    -------
    Path
        The file. It appears when it is complete.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is false.
    ValueError
        If the name is not that of a TIFF file, it is the segmented image, or the labels need more than 32 bits.
    StoreError
        If the disk fails.
    """
    final = Path(path).expanduser().absolute()
    if not final.name.lower().endswith(TIFF_SUFFIXES):
        raise ValueError(f"{final.name} is not the name of a TIFF file. Use a name that ends with .ome.tif or .tif.")
    source = labels if isinstance(labels, LabelSource) else LabelSource.of(labels)
    _check_target(final, source, overwrite)
    part = beside(final, f".{uuid.uuid4().hex[:8]}.part")
    try:
        with writing_to(final.parent):
            _write(source, part, ".ome." in final.name.lower(), progress or (lambda done, total: None))
        _put_in_place(part, final, overwrite)
    finally:
        discard(part)
    return final


def _check_target(final: Path, source: LabelSource, overwrite: bool) -> None:
    if not final.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {final.parent}. Create it, or choose another one.")
    if not os.path.lexists(final):
        return
    if source.image and os.path.exists(source.image) and os.path.samefile(source.image, final):
        raise ValueError(f"{final} is the image that was segmented. It is not replaced: choose another name.")
    if not overwrite or final.is_dir():
        raise FileExistsError(
            f"{final} exists. Pass overwrite=True (--overwrite) to replace it, or choose another name."
        )


def _put_in_place(part: Path, final: Path, overwrite: bool) -> None:
    if overwrite:
        replace(part, final)
        return
    try:
        # Unlike a rename, a link never replaces a file that appeared meanwhile.
        os.link(part, final)
    except OSError:
        if os.path.lexists(final):
            raise FileExistsError(f"{final} exists. Pass overwrite=True (--overwrite) to replace it.") from None
        replace(part, final)


# ------------------------------------------------------------------------------------------------------------- writing
def _write(source: LabelSource, part: Path, ome: bool, progress: Callable[[int, int], None]) -> None:
    import tifffile

    levels = _levels(source) if ome else [source.levels[0]]
    dtype = _dtype(source)
    total = sum(_n_tiles(level.shape) for level in levels)
    done = itertools.count(1)
    size = sum(math.prod(level.shape) for level in levels) * dtype.itemsize
    options: dict[str, Any] = {
        "tile": (TILE, TILE),
        "photometric": "minisblack",
        "compression": "zlib",
        "compressionargs": {"level": 2},
        **_resolution(source),
    }

    def counted(tiles: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for tile in tiles:
            progress(next(done), total)
            yield tile

    with tifffile.TiffWriter(part, bigtiff=size > CLASSIC_LIMIT, ome=ome) as writer:
        for number, level in enumerate(levels):
            first = number == 0
            # tifffile does not ask for more tiles than there are, so that the threads would wait for the last one.
            with contextlib.closing(_read_ahead(level, dtype)) as tiles:
                writer.write(
                    counted(tiles),
                    shape=level.shape if len(level.shape) > 1 else (1, *level.shape),
                    dtype=dtype,
                    subifds=len(levels) - 1 if first else 0,
                    subfiletype=0 if first else 1,
                    metadata=_metadata(source, ome) if first else None,
                    software="napari-blockbuster" if first else False,
                    **options,
                )


def _levels(source: LabelSource) -> list[Level]:
    """Return the levels that an OME-TIFF can hold: coarser ones have as many planes as the finest one."""
    planes = source.levels[0].shape[:-2]
    return [level for level in source.levels if level.shape[:-2] == planes]


def _dtype(source: LabelSource) -> np.dtype[Any]:
    """Return the smallest type that holds all labels and that programs for OME-TIFF read."""
    stored = source.levels[0].dtype
    highest = np.iinfo(stored).max if source.highest is None else source.highest
    if highest >= 2**32 and (source.highest is not None or stored.itemsize > 4):
        raise ValueError("The labels need more than 32 bits, which OME-TIFF cannot store. Keep them as OME-Zarr.")
    return np.dtype(np.uint16 if highest < 2**16 else np.uint32)


def _n_tiles(shape: Sequence[int]) -> int:
    return math.prod(shape[:-2]) * math.prod(-(-n // TILE) for n in shape[-2:])


def _boxes(shape: Sequence[int]) -> Iterator[Box]:
    """Yield the tiles of all planes in the order of a TIFF file."""
    for plane in np.ndindex(*shape[:-2]):
        for corner in itertools.product(*(range(0, n, TILE) for n in shape[-2:])):
            stop = (min(at + TILE, n) for at, n in zip(corner, shape[-2:], strict=True))
            yield Box((*plane, *corner), (*(at + 1 for at in plane), *stop))


def _read_ahead(level: Level, dtype: np.dtype[Any]) -> Generator[np.ndarray, None, None]:
    def read(box: Box) -> np.ndarray:
        found = level.read(box)
        if found.max(initial=0) > np.iinfo(dtype).max:
            raise ValueError(f"The labels have the id {found.max()}, but {np.iinfo(dtype).max} was expected at most.")
        flat = found.reshape((1, 1, *found.shape)[-2:] if found.ndim < 2 else found.shape[-2:])
        tile = np.zeros((TILE, TILE), dtype)
        tile[: flat.shape[0], : flat.shape[1]] = flat
        return tile

    with ThreadPoolExecutor(2, "blockbuster-export") as pool:
        waiting: deque[Any] = deque()
        for box in _boxes(level.shape):
            waiting.append(pool.submit(read, box))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


# ------------------------------------------------------------------------------------------------------------ metadata
def _metadata(source: LabelSource, ome: bool) -> dict[str, Any]:
    axes = source.axes.upper() if len(source.axes) > 1 else f"Y{source.axes.upper()}"
    found: dict[str, Any] = {"axes": axes}
    for axis, size, unit in zip(source.axes.upper(), source.scale, source.units, strict=True):
        if ome and axis in "XYZ":
            found[f"PhysicalSize{axis}"] = float(size)
            found[f"PhysicalSize{axis}Unit"] = OME_UNITS.get(unit or "", "pixel")
        elif ome and axis == "T" and unit:
            found |= {"TimeIncrement": float(size), "TimeIncrementUnit": OME_UNITS.get(unit, unit)}
        elif axis == "Z":
            found |= {"spacing": float(size), "unit": unit or "pixel"}
    return found


def _resolution(source: LabelSource) -> dict[str, Any]:
    """Return pixels per centimeter, if the size of a pixel is known."""
    per_axis = [
        1e4 / (size * conversion(unit, "micrometer"))
        for axis, size, unit in zip(source.axes, source.scale, source.units, strict=True)
        if axis in "yx" and unit in OME_UNITS and unit != "second"
    ]
    return {"resolution": tuple(per_axis[::-1]), "resolutionunit": CENTIMETER} if len(per_axis) == 2 else {}
