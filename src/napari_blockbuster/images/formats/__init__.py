"""Formats that a library of their own reads: one module for each, and what they share."""
