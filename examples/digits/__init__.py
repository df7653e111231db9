"""Handwritten digits in three views, any of which may be missing: modx on data other than sentiment."""
