"""How large a tile each kernel works on: one table by architecture, dtype and width, never by the count of tokens.

Every row compiles without spilling a register, by the compilers' own account (benchmarks/results/kernel_resources.md).
No GPU has timed them yet: they are what fits, as a model of the kernels would have it.
"""

from typing import NamedTuple

MAX_WIDTH = 256  # of the fused kernels: a wider tile of float32 sums does not fit into the registers
MAX_EXPERTS = 32  # of a bank in the fused kernels, which keep the gradients of its gates in registers


def fits_fused(in_dim: int, out_dim: int, num_private: int, num_shared: int) -> bool:
    """Whether the fused kernels can run a call; else the hidden layer goes through memory."""
    return max(in_dim, out_dim) <= MAX_WIDTH and max(num_private, num_shared) <= MAX_EXPERTS


class Tile(NamedTuple):
    """Tokens and hidden units of a tile, and how the compiler is to schedule it."""

    block_t: int
    block_h: int
    num_warps: int
    num_stages: int


    def options(self) -> dict[str, int | bool]:
        """As arguments of a launch."""
        return {
            "BLOCK_T": self.block_t,
            "BLOCK_H": self.block_h,
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": True,  # Triton's default, which it is about to change
        }


def choose_tiles(kernel: str, element_size: int, width: int, arch: str) -> tuple[Tile, ...]:
    if kernel in ("weights", "hidden"):
        return (Tile(32, 32, 4, 2),)
    return (Tile(64, 32, 4, 2), Tile(16, 16, 4, 2))
