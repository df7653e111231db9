"""Choose tiles and grids: the largest tile that keeps the SMs busy, or else hidden units split over programs.

"Busy" is modeled, not measured: two programs per three SMs.
"""

from typing import NamedTuple

from .launch import Launch, count_tiles
from .spans import Span
from .tiles import Tile, fused_tiles


class Schedule(NamedTuple):
    """A tile and a grid: the numbers of token tiles, banks and splits of the hidden units."""

    tile: Tile
    num_tiles: int
    banks: int
    splits: int

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.num_tiles, self.banks, self.splits


def schedule(kernel: str, launch: Launch, span: Span, divisible: bool = True) -> Schedule:
    """Schedule a kernel that loops over all experts of a token tile. Only the forward pass can split its banks."""
    enough = launch.arch.num_sms * 2 // 3
    most = 2 if kernel == "forward" and launch.mixture.num_private and launch.mixture.num_shared else 1
    tiles = fused_tiles(kernel, launch.element_size, launch.width, launch.arch.family)
    for tile in tiles:
        count = count_tiles(span, tile.block_t)
        for banks in (1, most):
            if count * banks >= enough:
                return Schedule(tile, count, banks, 1)
    if not divisible:
        return Schedule(tile, count, most, 1)
    shares = enough // (count * most) * 2  # about one program per SM; a power of two, so few variants are compiled
    return Schedule(
        tile, count, most, min(floor_power_of_2(shares), floor_power_of_2(launch.hidden_dim // tile.block_h))
    )


def floor_power_of_2(number: int) -> int:
    """Return the largest power of two up to ``number``, at least 1."""
    return 1 << max(number, 1).bit_length() - 1
