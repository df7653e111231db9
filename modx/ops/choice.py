"""The names of the implementations."""

from .dispatch import IMPLEMENTATIONS as IMPLEMENTATIONS
