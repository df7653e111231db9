"""How a launch fills the chip: the largest tile that gives every processor work, or else shares of the hidden units.

What "fills" means is a model, not a measurement: two programs for three processors.
"""

from typing import NamedTuple

from .call import Call, count_tiles
from .spans import Span
from .tiles import Tile, fused_tiles


class Schedule(NamedTuple):
    """A tile, and programs by token tile, by bank and by share of the hidden units."""

    tile: Tile
    num_tiles: int
    banks: int
    splits: int

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.num_tiles, self.banks, self.splits


def schedule(kernel: str, call: Call, span: Span, divisible: bool = True) -> Schedule:
    """For a kernel that walks over all experts of a tile of tokens; only the forward pass takes banks apart."""
    enough = call.chip.processors * 2 // 3
    most = 2 if kernel == "forward" and call.num_private and call.num_shared else 1
    tiles = fused_tiles(kernel, call.x.element_size(), call.width, call.chip.family)
    for tile in tiles:
        count = count_tiles(span, tile.block_t)
        for banks in (1, most):
            if count * banks >= enough:
                return Schedule(tile, count, banks, 1)
    if not divisible:
        return Schedule(tile, count, most, 1)
    shares = enough // (count * most) * 2  # a power of two, for few variants to compile; about as many as processors
    return Schedule(tile, count, most, min(floor_power_of_2(shares), floor_power_of_2(call.hidden_dim // tile.block_h)))


def floor_power_of_2(number: int) -> int:
    """The largest power of two up to ``number``; 1 at least."""
    return 1 << max(number, 1).bit_length() - 1
