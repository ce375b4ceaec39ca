"""The region of interest in a merge: which objects lie in it, and how they are cut at its edge."""
