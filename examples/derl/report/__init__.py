"""Tables, figures and the model card of a run; imports ``evaluate`` and ``data``, and trains nothing."""
