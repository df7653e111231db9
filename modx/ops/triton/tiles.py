"""Tables of tiles by kernel, element size, width and architecture.

Every tile compiles without register spills for as many experts as the fused kernels support
(benchmarks/results/kernel_resources.md). They are the largest that fit; no GPU has timed them yet.
"""

from typing import NamedTuple


class Tile(NamedTuple):
    """Tokens and hidden units per tile, warps and pipeline stages."""

    block_t: int
    block_h: int
    num_warps: int
    num_stages: int

    def options(self) -> dict[str, int | bool]:
        """Return the arguments of a launch."""
        return {
            "BLOCK_T": self.block_t,
            "BLOCK_H": self.block_h,
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": True,  # Triton's default up to 3.9
        }


# Shared memory per block in KiB. The tiles of sm_80 also serve sm_86 and sm_89, which have the least.
SHARED_LIMIT = {"sm_80": 99, "sm_90": 227, "sm_100": 227, "gfx942": 64}

# Tiles by kernel, bytes per element and largest width, for each family of architectures, from many tokens to few.
_TILES: dict[tuple[str, int, int], dict[str, tuple[Tile, ...]]] = {
    ("forward", 2, 64): {
        "sm_80": (Tile(64, 64, 8, 2), Tile(16, 32, 4, 2)),
        "sm_90": (Tile(128, 64, 8, 2), Tile(64, 64, 8, 2), Tile(16, 64, 4, 3)),
        "sm_100": (Tile(128, 32, 8, 2), Tile(64, 64, 8, 2), Tile(16, 64, 4, 3)),
        "gfx942": (Tile(128, 32, 8, 2), Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
    },
    ("forward", 2, 128): {
        "sm_80": (Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_90": (Tile(128, 64, 8, 2), Tile(64, 64, 8, 2), Tile(16, 64, 4, 3)),
        "sm_100": (Tile(128, 64, 8, 2), Tile(64, 64, 8, 2), Tile(16, 64, 4, 3)),
        "gfx942": (Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
    },
    ("forward", 2, 256): {
        "sm_80": (Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_90": (Tile(64, 64, 8, 2), Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_100": (Tile(64, 64, 8, 2), Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        "gfx942": (Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
    },
    ("forward", 4, 64): {
        "sm_80": (Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_90": (Tile(128, 32, 8, 2), Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_100": (Tile(128, 32, 8, 2), Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        "gfx942": (Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
    },
    ("forward", 4, 128): {
        "sm_80": (Tile(32, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_90": (Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_100": (Tile(32, 32, 8, 2), Tile(16, 32, 4, 2)),
        "gfx942": (Tile(16, 32, 4, 2),),
    },
    ("backward", 2, 64): {
        "sm_80": (Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_90": (Tile(128, 32, 8, 2), Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_100": (Tile(128, 32, 8, 2), Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        "gfx942": (Tile(32, 32, 8, 2), Tile(16, 32, 4, 2)),
    },
    ("backward", 2, 128): {
        "sm_80": (Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_90": (Tile(128, 32, 8, 2), Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_100": (Tile(128, 32, 8, 2), Tile(64, 32, 8, 2), Tile(16, 32, 4, 2)),
        "gfx942": (Tile(32, 32, 8, 2), Tile(16, 32, 4, 2)),
    },
    ("backward", 2, 256): {
        "sm_80": (Tile(32, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_90": (Tile(32, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_100": (Tile(32, 32, 8, 2), Tile(16, 32, 4, 2)),
        "gfx942": (Tile(16, 32, 4, 2),),
    },
    ("backward", 4, 64): {
        "sm_80": (Tile(32, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_90": (Tile(32, 32, 4, 2), Tile(16, 32, 4, 2)),
        "sm_100": (Tile(16, 32, 4, 2),),
        "gfx942": (Tile(16, 32, 4, 2),),
    },
    ("backward", 4, 128): {
        "sm_80": (Tile(16, 32, 4, 2),),
        "sm_90": (Tile(32, 32, 8, 2), Tile(16, 32, 4, 2)),
        "sm_100": (Tile(32, 32, 8, 2), Tile(16, 32, 4, 2)),
        "gfx942": (Tile(16, 32, 4, 2),),
    },
    ("weights", 2, 64): {
        "sm_80": (Tile(32, 32, 8, 2),),
        "sm_90": (Tile(32, 64, 8, 2),),
        "sm_100": (Tile(32, 64, 8, 2),),
        "gfx942": (Tile(16, 32, 4, 2),),
    },
    ("weights", 2, 128): {
        "sm_80": (Tile(32, 32, 8, 2),),
        "sm_90": (Tile(32, 64, 8, 2),),
        "sm_100": (Tile(32, 64, 8, 2),),
        "gfx942": (Tile(16, 16, 4, 2),),
    },
    ("weights", 2, 256): {
        "sm_80": (Tile(16, 32, 8, 2),),
        "sm_90": (Tile(16, 32, 8, 2),),
        "sm_100": (Tile(16, 32, 8, 2),),
        "gfx942": (Tile(16, 16, 4, 2),),
    },
    ("weights", 4, 64): {
        "sm_80": (Tile(32, 32, 8, 2),),
        "sm_90": (Tile(32, 32, 4, 2),),
        "sm_100": (Tile(32, 32, 8, 2),),
        "gfx942": (Tile(16, 16, 4, 2),),
    },
    ("weights", 4, 128): {
        "sm_80": (Tile(16, 32, 4, 2),),
        "sm_90": (Tile(32, 32, 8, 2),),
        "sm_100": (Tile(32, 32, 8, 2),),
        "gfx942": (Tile(16, 16, 4, 2),),
    },
}
# The wide kernels loop over the width, so one tile serves every width.
_WIDE_TILES: dict[tuple[str, int], dict[str, Tile]] = {
    ("hidden", 2): dict.fromkeys(("sm_90", "sm_100"), Tile(128, 128, 8, 3))
    | {"sm_80": Tile(128, 64, 8, 3), "gfx942": Tile(128, 64, 8, 2)},
    ("hidden", 4): dict.fromkeys(("sm_80", "sm_90", "sm_100"), Tile(128, 64, 8, 3)) | {"gfx942": Tile(64, 64, 8, 2)},
    ("hidden_backward", 2): dict.fromkeys(("sm_80", "sm_90", "sm_100"), Tile(128, 64, 8, 3))
    | {"gfx942": Tile(64, 64, 8, 2)},
    ("hidden_backward", 4): dict.fromkeys(("sm_80", "sm_90", "sm_100"), Tile(64, 64, 8, 2))
    | {"gfx942": Tile(64, 64, 8, 2)},
}


def fused_tiles(kernel: str, element_size: int, width: int, family: str | None) -> tuple[Tile, ...]:
    """Return the tiles of a fused kernel, largest first."""
    return _TILES[kernel, element_size, max(64, width)][_known(family)]


def wide_tile(kernel: str, element_size: int, family: str | None) -> Tile:
    """Return the tile of a wide kernel."""
    return _WIDE_TILES[kernel, element_size][_known(family)]


def _known(family: str | None) -> str:
    assert family is not None, "a GPU without tiles is refused before"
    return family
