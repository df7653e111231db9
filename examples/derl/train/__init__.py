"""Options, a run's folder and the trainer; imports ``data``, ``model`` and ``evaluate``."""
