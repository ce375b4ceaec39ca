"""Wishes that a layer carries in its metadata."""

from __future__ import annotations

__all__ = ["DIAMETER", "TILE"]

TILE = "blockbuster tile"
"""Key for a tile along the spatial axes, in voxels, that is suggested for the layer."""
DIAMETER = "blockbuster diameter"
"""Key for the diameter of the objects, in voxels, that is suggested for the layer."""
