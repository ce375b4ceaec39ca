"""Dock widgets of napari: which viewer one belongs to, and where the wide ones go."""
