"""Everything that people see in napari. Widgets hold no logic: what a button does is a call that a script could make."""
