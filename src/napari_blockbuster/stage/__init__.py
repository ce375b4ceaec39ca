"""Segment tiles, store their labels, and compare them at the seams."""
