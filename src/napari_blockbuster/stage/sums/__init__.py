"""Sums over the voxels of each label, and the compiled loops that take them."""
