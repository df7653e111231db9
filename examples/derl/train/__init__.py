"""Options, the folder of a run, and the trainer. Imports ``data``, ``model`` and ``evaluate``."""
