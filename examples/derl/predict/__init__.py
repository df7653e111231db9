"""Predict from raw input with a saved model. Imports nothing from ``train``, so inference needs no training code."""
