"""DERL on CMU-MOSI: data, model, protocol and report."""
