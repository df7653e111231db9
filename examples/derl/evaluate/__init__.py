"""Score a model under the paper's conditions and compute metrics. Imports ``data`` and ``model``."""
