"""The models, their configuration and their registry. Imports only ``data``, and ``examples/baselines``."""
