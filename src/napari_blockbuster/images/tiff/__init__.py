"""Images in TIFF files."""
