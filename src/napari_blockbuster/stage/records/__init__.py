"""What is on disk for each tile beside its labels."""
