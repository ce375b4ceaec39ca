"""Where an image holds something: tissue, and tiles that are empty."""
