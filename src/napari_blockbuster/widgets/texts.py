"""Text of numbers."""

from __future__ import annotations

__all__ = ["voxels_name"]


def voxels_name(n_spatial_axes: int) -> str:
    """Return the name of the elements of an image: "pixel" in 2D, "voxel" in 3D."""
    return "pixel" if n_spatial_axes == 2 else "voxel"
