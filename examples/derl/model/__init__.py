"""The models, their configuration and the registry; imports ``data`` alone."""
