"""Tables of the labels of all staged tiles."""
