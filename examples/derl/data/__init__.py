"""Load files and synthetic data as tensors, and drop input from them. Imports none of the other folders."""
