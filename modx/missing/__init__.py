"""Which elements of a sample go missing, and how their absence is written into its values.

A mask is bool ``(B, T)``, True where an element (a frame, a word piece) is real and observed. Every function
that loses something returns a keep mask of the same shape, True where an element is real and survived, and
leaves its inputs alone; ``erase`` applies it. Padding is False before and after, and never counts towards a rate.

The same state of ``generator`` gives the same losses on any device the masks are on: draws are made on the
generator's own device.
"""

from .block import drop_block
from .bursts import drop_bursts
from .erase import erase
from .frames import drop_frames
from .modalities import drop_modalities, keep_modalities
from .patterns import INDEPENDENT_PATTERNS, PATTERNS, drop, parse_pattern
from .together import drop_together
from .unequal import unequal_rates

__all__ = [
    "drop",
    "PATTERNS",
    "INDEPENDENT_PATTERNS",
    "parse_pattern",
    "drop_frames",
    "drop_bursts",
    "drop_block",
    "drop_modalities",
    "keep_modalities",
    "drop_together",
    "unequal_rates",
    "erase",
]
