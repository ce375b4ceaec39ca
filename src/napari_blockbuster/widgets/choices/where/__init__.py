"""Where section of the dock: the region of interest, and the tiles to skip."""
