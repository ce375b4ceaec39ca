"""Write a mask as an OME-Zarr that says which part of an image it covers."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np

from napari_blockbuster.geometry.tiles import TileGrid
from napari_blockbuster.images import ImageSource

from .occupant import Occupant
from .place import part_of, put_in_place, take_back_part
from .writer import LabelsWriter

__all__ = ["write_mask"]

TILE = 1024


def write_mask(path: Path, mask: np.ndarray, source: ImageSource, overwrite: bool = False) -> None:
    """Write a mask of the same field as an image. It appears at its place when it is complete.

    Parameters
    ----------
    path : Path
    mask : numpy.ndarray
        With the axes of the image.
    source : ImageSource
    overwrite : bool, default False
        Replace what is at the path.

    Raises
    ------
    FileExistsError
        If the path exists and `overwrite` is false.
    StoreError
        If the disk is full or read-only.
    """
    if source.aliases(path):
        raise ValueError(f"the output {path} is the image itself, or holds it. Choose another one")
    there = Occupant.of(path)
    if not there.is_nothing and not overwrite:
        raise FileExistsError(f"the output {path} exists. Choose another one, or pass --overwrite to replace it")
    token = uuid.uuid4().hex
    factors = [n / m for n, m in zip(source.shape, mask.shape, strict=True)]
    scale = [s * f for s, f in zip(source.scale, factors, strict=True)]
    # The center of the first voxel of the mask.
    shift = [(f - 1) / 2 * s for f, s in zip(factors, source.scale, strict=True)]
    place = source.translation or (0.0,) * source.ndim
    place_of_mask = [p + d for p, d in zip(place, shift, strict=True)]
    options: dict[str, Any] = {"axes": source.axes, "scale": scale, "units": source.units, "translation": place_of_mask}
    grid = TileGrid(mask.shape, [min(TILE, n) for n in mask.shape], separate_axes=source.separate_axes)
    try:
        name = path.name.removesuffix(".ome.zarr")
        writer = LabelsWriter.create(part_of(path, token), grid=grid, dtype=np.uint8, name=name, n_levels=1, **options)
        for tile in grid:
            writer.write_tile(tile, mask[tile.core.slices].astype(np.uint8)).result()
        put_in_place(part_of(path, token), path, there)
    finally:
        take_back_part(path, token)
