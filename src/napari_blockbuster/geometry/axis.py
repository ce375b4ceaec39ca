"""One-dimensional tiling. `napari_blockbuster.geometry.tiles` composes the tiles of an image from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["AxisTiling", "GridError", "check_axis", "per_axis"]


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


class GridError(ValueError):
    """An axis of an image that cannot be tiled as asked.

    Parameters
    ----------
    text : str
        Message with the placeholder ``{axis}``.
    axis : int
        Index of the axis.
    """

    def __init__(self, text: str, axis: int) -> None:
        super().__init__(text.format(axis=f"axis {axis}"))
        self.text, self.axis = text, axis

    def named(self, names: Sequence[str]) -> ValueError:
        """Return an error whose message has the name of the axis, such as ``y``, in place of its index."""
        return ValueError(self.text.format(axis=names[self.axis]))

    def __reduce__(self) -> tuple[type[GridError], tuple[str, int]]:
        return type(self), (self.text, self.axis)


def check_axis(axis: int, size: int, tile: int, halo: int) -> None:
    """Raise `GridError` if an axis of the image cannot be tiled in this way."""
    if size < 1:
        raise GridError(f"The image is empty: its extent along {{axis}} is {size}.", axis)
    if tile < 1:
        raise GridError(f"The tile size is {tile} along {{axis}}. It must be at least 1.", axis)
    if halo < 0:
        raise GridError(f"The halo is {halo} along {{axis}}. It must be 0 or more.", axis)
    if tile < size and halo > tile:
        raise GridError(
            f"The halo is {halo} along {{axis}}, more than the tile size of {tile} there. "
            f"Choose tiles of at least {halo}, or a halo of at most {tile}.",
            axis,
        )
