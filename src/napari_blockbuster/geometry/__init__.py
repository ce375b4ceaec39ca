"""Geometry of a tiled image, composed from one-dimensional tilings."""
