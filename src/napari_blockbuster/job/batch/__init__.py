"""Many images with one model: a job for each, one summary, one table."""
