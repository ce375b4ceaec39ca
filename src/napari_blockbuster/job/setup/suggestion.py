"""Suggest tile and halo from the chunks of the image, the available memory and the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from napari_blockbuster.geometry.axis import GridError
from napari_blockbuster.geometry.tiles import DEFAULT_BAND_DEPTH, TileGrid
from napari_blockbuster.images import ImageSource
from napari_blockbuster.job.folder.settings import MOST_TILES
from napari_blockbuster.machine.limits import cpu_count, memory_limit_bytes
from napari_blockbuster.models.base import Model
from napari_blockbuster.models.planes import suggested_for

__all__ = ["make_grid", "suggest_tiles"]

TARGET_VOXELS = {1: 2**22, 2: 2048**2, 3: 256**3}
"""Voxels of a tile by number of spatial axes: large enough that fixed costs are negligible, small enough to show progress."""
BYTES_PER_VOXEL = 64
"""Working memory of the classical models for each voxel of a read box (float32 copies, distances, indices)."""


def suggest_tiles(
    source: ImageSource,
    model: Model,
    tile_shape: int | Sequence[int] | None = None,
    halo: int | Sequence[int] | None = None,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Complete the tile and halo that the user chose.

    Parameters
    ----------
    source : ImageSource
    model : Model
    tile_shape, halo : int or sequence of int, optional
        The choice of the user, in voxels along the spatial axes. Axes of a single plane may be left out.

    Returns
    -------
    tile_shape, halo : tuple of int
        In voxels along the spatial axes. A suggested tile is made of whole chunks where they are small enough, of at
        least twice the halo, and even, so that pyramid levels stay aligned with tiles.
    """
    shape, axes = source.spatial_shape, source.axes[source.separate_axes :]
    wish = suggested_for(model, source)
    reach = _each(wish.halo if halo is None else halo, axes, shape, "halo")
    # Along an axis of one plane there is nothing to see beyond it.
    reach = tuple(h if n > 1 else 0 for h, n in zip(reach, shape, strict=True))
    if tile_shape is not None:
        tile = _each(tile_shape, axes, shape, "tile size")
        if halo is None:
            # A suggested halo must fit the tile of the user.
            reach = tuple(min(h, t) for h, t in zip(reach, tile, strict=True))
        return tile, reach
    if wish.tile_shape is not None:
        tile = wish.tile_shape
    else:
        tile = _from_chunks(shape, source.read_chunks[source.separate_axes :], reach)
    return tuple(min(t, n) for t, n in zip(tile, shape, strict=True)), reach


def make_grid(
    source: ImageSource, tile_shape: Sequence[int], halo: Sequence[int], band_depth: int = DEFAULT_BAND_DEPTH
) -> TileGrid:
    """Return the grid of a run: tiles along the spatial axes, single planes along time.

    Parameters
    ----------
    source : ImageSource
    tile_shape, halo : sequence of int
        In voxels along the spatial axes.
    band_depth : int
        See `TileGrid`.

    Raises
    ------
    ValueError
        If the numbers do not fit the image or each other, or if there are too many tiles.
    """
    frames = source.separate_axes
    sizes = (1,) * frames + tuple(tile_shape), (0,) * frames + tuple(halo)
    try:
        grid = TileGrid(source.shape, *sizes, separate_axes=frames, band_depth=band_depth)
    except GridError as error:
        raise error.named(source.axes) from None
    n_tiles = math.prod(grid.grid_shape)
    if n_tiles > MOST_TILES:
        raise ValueError(
            f"{n_tiles:,} tiles are more than {MOST_TILES:,}. Choose larger tiles than {tuple(tile_shape)}."
        )
    return grid


def _each(value: int | Sequence[int], axes: Sequence[str], shape: Sequence[int], what: str) -> tuple[int, ...]:
    """Return one number per axis. Numbers for an axis of a single plane may be left out."""
    values = (value,) * len(axes) if isinstance(value, int) else tuple(_whole(v, value, what) for v in value)
    thick = [i for i, n in enumerate(shape) if n > 1]
    if len(values) == len(thick) < len(axes):
        known = dict(zip(thick, values, strict=True))
        return tuple(known.get(i, 1) for i in range(len(axes)))
    if len(values) != len(axes):
        raise ValueError(
            f"{len(values)} numbers for the {what} {values}, but the image has {len(axes)} axes ({', '.join(axes)}). "
            f"Give one number for all axes, or {len(axes)} numbers."
        )
    return values


def _whole(number: Any, value: Any, what: str) -> int:
    if isinstance(number, str) or number != int(number):
        raise ValueError(f"The {what} {value!r} is not made of whole numbers of voxels.")
    return int(number)


def _from_chunks(shape: tuple[int, ...], chunks: tuple[int, ...], halo: tuple[int, ...]) -> tuple[int, ...]:
    budget = min(TARGET_VOXELS[len(shape)], memory_limit_bytes() // cpu_count() // 2 // BYTES_PER_VOXEL)
    side = max(32, round(budget ** (1 / len(shape))))
    # Thin stacks leave room for wider tiles.
    thin = [n for n in shape if n < side]
    if thin and len(thin) < len(shape):
        side = round((budget / math.prod(thin)) ** (1 / (len(shape) - len(thin))))
    tile = []
    for n, chunk, h in zip(shape, chunks, halo, strict=True):
        wanted = max(min(side, n), 2 * h)
        step = chunk if 8 <= chunk <= wanted and chunk % 2 == 0 else 16
        tile.append(n if n <= wanted * 1.25 else max(step, round(wanted / step) * step))
    return tuple(tile)
