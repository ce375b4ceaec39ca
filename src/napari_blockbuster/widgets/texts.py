"""Text of numbers."""

from __future__ import annotations

__all__ = ["count_text", "voxels_name"]


def count_text(n: int, noun: str) -> str:
    """Return a number and its noun: "1 tile", "1,200 tiles"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def voxels_name(n_spatial_axes: int) -> str:
    """Return the name of the elements of an image: "pixel" in 2D, "voxel" in 3D."""
    return "pixel" if n_spatial_axes == 2 else "voxel"
