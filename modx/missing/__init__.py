"""Simulate missing data: choose which elements of a sample to drop, and erase them.

A mask is bool ``(B, T)``, True where an element (a frame or a word piece) is real. Every ``drop_*`` function returns a
keep mask of the same shape, True where an element is real and kept, and ``erase`` applies it. No function changes its
inputs. Padding is False in both masks and never counts toward a rate.

The same generator state drops the same elements on any device, because numbers are drawn on the generator's device.
Modalities are drawn in sorted order, so the order of a mapping does not matter. Results keep that order.
"""

from .across import drop_modalities, drop_together, keep_modalities, unequal_rates
from .erase import erase
from .patterns import BURST_LENGTH, PATTERNS, drop, parse_pattern, register_pattern
from .within import drop_block, drop_bursts, drop_frames

__all__ = [
    "drop",
    "register_pattern",
    "parse_pattern",
    "PATTERNS",
    "BURST_LENGTH",
    "drop_frames",
    "drop_bursts",
    "drop_block",
    "drop_modalities",
    "keep_modalities",
    "drop_together",
    "unequal_rates",
    "erase",
]
