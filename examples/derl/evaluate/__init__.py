"""Scores of a model under the paper's conditions, and metrics of them; imports ``data`` and ``model``."""
