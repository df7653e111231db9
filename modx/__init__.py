"""Mixture-of-disentangled-experts layers for multimodal models whose inputs go missing."""

__version__ = "0.1.0"
