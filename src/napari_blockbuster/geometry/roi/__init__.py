"""Regions of interest: the voxels of an image that a user wants segmented, as boxes, polygons and masks."""

from __future__ import annotations

from .roi import Coverage, Roi, tiles_meeting

__all__ = ["Coverage", "Roi", "tiles_meeting"]
