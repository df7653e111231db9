"""Simulated missing data: choose which elements of a sample to drop, and erase them.

A mask is bool ``(B, T)``, True where an element (a frame, a word piece) is real and observed. Every ``drop_*``
function returns a keep mask of the same shape, True where an element is real and kept, and leaves its inputs
unchanged; ``erase`` applies it. Padding is False before and after, and never counts towards a rate.

The same generator state drops the same elements on any device: numbers are drawn on the generator's own device.
Modalities are drawn in sorted order of their names, so the order of a mapping never matters; results keep it.
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
