"""Holes of merged objects: the regions of the background, and which of them to fill."""
