"""Other systems, for comparison: features, masks and a number of outputs in. Nothing of ``derl`` is imported here."""
