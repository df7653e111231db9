"""Files and synthetic data as tensors, and a dataset that drops input; imports none of the other folders."""
