"""Axes, scenes and voxel sizes, as files describe them and as the engine reads them."""
