"""Evidence at seams: which labels of neighboring tiles may be one object."""
