"""Handwritten digits in three views, any of which may be missing: modx on data of another kind than sentiment."""
