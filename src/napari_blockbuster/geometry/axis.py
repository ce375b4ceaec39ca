"""One-dimensional tiling. `napari_blockbuster.geometry.tiles` composes the tiles of an image from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["AxisTiling", "check_axis", "per_axis"]


@dataclass(frozen=True, slots=True)
class AxisTiling:
    """One axis cut into tiles of equal thickness; the last one may be thinner.

    Attributes
    ----------
    size : int
        Extent of the image, in voxels.
    tile : int
        Extent of a core.
    halo : int
        Context read on each side of a core.
    band_depth : int
        Most voxels on each side of a face that two tiles compare.
    """

    size: int
    tile: int
    halo: int
    band_depth: int

    @classmethod
    def fitted(cls, size: int, tile: int, halo: int, band_depth: int) -> AxisTiling:
        """Return a tiling that is no larger than the image."""
        tile = min(tile, size)
        # A single tile has no neighbor along this axis: a halo would change nothing here but must not be refused.
        return cls(size, tile, 0 if tile == size else halo, band_depth)

    def __len__(self) -> int:
        return -(-self.size // self.tile)

    def core(self, position: int) -> tuple[int, int]:
        """Return the start and stop of a core."""
        start = position * self.tile
        return start, min(start + self.tile, self.size)

    def read(self, position: int) -> tuple[int, int]:
        """Return the start and stop of a core and its halo."""
        # Clipped at the image, never padded: no voxel is read that the microscope did not record.
        start, stop = self.core(position)
        return max(start - self.halo, 0), min(stop + self.halo, self.size)

    def position_of(self, voxel: float) -> int:
        """Return the position of the core that holds a voxel (clipped to the image)."""
        return min(max(int(voxel) // self.tile, 0), len(self) - 1)

    def span(self, start: int, stop: int) -> range:
        """Return the positions of the cores that meet a stretch of voxels."""
        return range(max(start // self.tile, 0), max(min(-(-stop // self.tile), len(self)), 0))

    @property
    def depth(self) -> int:
        """Voxels on each side of a face that both of its tiles have segmented and compare."""
        return min(self.band_depth, -(-self.halo // 2))

    @property
    def own_depth(self) -> int:
        """Voxels on a tile's own side of a face that it stores: at least its plane at the face."""
        return max(self.depth, 1)

    def band(self, position: int, side: str) -> tuple[int, int] | None:
        """Return the start and stop of the band at one face of a core, or None at the edge of the image.

        `side` is the role of the tile at the face: ``"low"`` at its upper face, ``"high"`` at its lower face.
        """
        start, stop = self.core(position)
        if side == "low":
            return None if stop == self.size else (stop - self.own_depth, min(stop + self.depth, self.size))
        return None if start == 0 else (start - self.depth, min(start + self.own_depth, self.size))


def per_axis(value: int | Sequence[int], ndim: int, name: str) -> tuple[int, ...]:
    """Return one number for each axis, from one number for all of them or one for each.

    Raises
    ------
    ValueError
        If there are more or fewer numbers than axes.
    """
    values = (value,) * ndim if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) != ndim:
        raise ValueError(
            f"{name} has {len(values)} entries {values} but the image has {ndim} axes; "
            f"give one number for all axes, or {ndim} of them"
        )
    return values


def check_axis(axis: int, size: int, tile: int, halo: int) -> None:
    """Raise ValueError if an axis of the image cannot be tiled in this way."""
    if size < 1:
        raise ValueError(f"the image is empty: its extent along axis {axis} is {size}")
    if tile < 1:
        raise ValueError(f"tile_shape is {tile} along axis {axis}; it must be at least 1 voxel")
    if halo < 0:
        raise ValueError(f"halo is {halo} along axis {axis}; it must be 0 or more voxels")
    if tile < size and halo > tile:
        raise ValueError(
            f"halo is {halo} along axis {axis}, more than the tile's {tile} voxels there; "
            f"use tiles of at least {halo}, or a halo of at most {tile}"
        )
