"""From voxels to the world: size of a voxel, place of the first one, and the name of the unit in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["Space"]

MICROMETER = "micrometer"


@dataclass(frozen=True)
class Space:
    """The spatial axes of an image.

    Attributes
    ----------
    spacing : tuple of float
        Size of a voxel along each axis, in `unit`.
    origin : tuple of float
        Place of the center of the first voxel, in `unit`.
    unit : str
        Ending of the names of columns: ``um`` for micrometers, ``world`` if the image names no unit; empty if it gives no sizes,
        so that voxels are all there is.
    """

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    unit: str = ""

    @classmethod
    def of(
        cls, scale: Sequence[float], units: Sequence[str | None], translation: Sequence[float] | None = None
    ) -> Self:
        """Return the space of an image from what its layout says of each spatial axis. Lengths become micrometers."""
        from napari_blockbuster.images.metadata.sizes import conversion

        factors = []
        for unit in units:
            try:
                factors.append(conversion(unit, MICROMETER) if unit else None)
            except Exception:
                # pint has many errors for units that are unknown, or that are no lengths.
                factors.append(None)
        known = all(factor is not None for factor in factors)
        by = [float(factor) if known and factor is not None else 1.0 for factor in factors]
        spacing = tuple(float(s) * f for s, f in zip(scale, by, strict=True))
        moved = translation or (0.0,) * len(spacing)
        origin = tuple(float(o) * f for o, f in zip(moved, by, strict=True))
        plain = all(s == 1 for s in spacing) and not any(origin)
        return cls(spacing, origin, "um" if known else "" if plain else "world")

    @classmethod
    def of_image(cls, description: dict[str, Any], separate_axes: int) -> Self:
        """Return the space of an image from its description in ``job.json``."""
        parts = (description.get(name) for name in ("scale", "units", "translation"))
        scale, units, translation = (None if part is None else part[separate_axes:] for part in parts)
        assert scale is not None
        return cls.of(scale, units or [None] * len(scale), translation)

    @property
    def is_isotropic(self) -> bool:
        """Whether voxels are squares, or cubes."""
        return all(abs(s - self.spacing[0]) <= 1e-12 * self.spacing[0] for s in self.spacing)

    def named(self, name: str, power: int = 1) -> str:
        """Return the name of a column in world units: ``volume_um3``, ``axis_major_length_um``."""
        return f"{name}_{self.unit}{power if power > 1 else ''}"
