"""Tables, figures and the model card of a run. Imports ``evaluate`` and ``data``."""
