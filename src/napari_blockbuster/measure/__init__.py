"""Measurements of objects, from sums over tiles."""
