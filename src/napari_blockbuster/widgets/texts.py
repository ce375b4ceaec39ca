"""Text of numbers."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["times", "voxels_name"]


def voxels_name(n_spatial_axes: int) -> str:
    """Return the name of the elements of an image: "pixel" in 2D, "voxel" in 3D."""
    return "pixel" if n_spatial_axes == 2 else "voxel"


def times(values: Sequence[float]) -> str:
    """Return extents as text: "128 × 256 × 256"."""
    return " × ".join(f"{int(v):,}" if float(v).is_integer() else f"{v:g}" for v in values)
