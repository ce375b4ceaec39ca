"""From what a user says about where to segment to a region of interest in voxels of the image."""

from __future__ import annotations

from .reading import default_inside, read_roi

__all__ = ["default_inside", "read_roi"]
