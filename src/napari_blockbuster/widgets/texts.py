"""Text of numbers, and links."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["link", "times", "voxels_name"]


def link(address: str, text: str) -> str:
    """Return a link that is readable in the dark theme as well. Qt's own color is dark blue."""
    return f'<a href="{address}" style="color: #3b9edb">{text}</a>'


def voxels_name(n_spatial_axes: int) -> str:
    """Return the name of the elements of an image: "pixel" in 2D, "voxel" in 3D."""
    return "pixel" if n_spatial_axes == 2 else "voxel"


def times(values: Sequence[float]) -> str:
    """Return extents as text: "128 × 256 × 256"."""
    return " × ".join(f"{int(v):,}" if float(v).is_integer() else f"{v:g}" for v in values)
