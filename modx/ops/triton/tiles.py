"""How large a tile each kernel works on: one table by chip, dtype and width, never by the count of tokens.

Every row compiles without spilling a register, by the compilers' own account, up to the number of experts that the
fused form takes (benchmarks/results/kernel_resources.md).
No GPU has timed them yet: they are the largest that fit.
"""

from typing import NamedTuple


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


_ABREAST = Tile(128, 32, 8, 2)
_MIDDLE = Tile(64, 32, 8, 2)
_FLAT = Tile(32, 32, 8, 2)
_THIN = Tile(16, 32, 4, 2)
_THINNEST = Tile(16, 16, 4, 2)

# Kernel, bytes of an element, width up to which: tiles for each family of chips, from many tokens to few.
_TILES: dict[tuple[str, int, int], dict[str, tuple[Tile, ...]]] = {
    ("forward", 2, 64): {
        "sm_80": (Tile(64, 64, 8, 2), _THIN),
        "sm_90": (Tile(128, 64, 8, 2), Tile(64, 64, 8, 2), Tile(16, 64, 4, 3)),
        "sm_100": (_ABREAST, Tile(64, 64, 8, 2), Tile(16, 64, 4, 3)),
        "gfx942": (_ABREAST, _MIDDLE, _THIN),
    },
    ("forward", 2, 128): {
        "sm_80": (_MIDDLE, _THIN),
        "sm_90": (Tile(128, 64, 8, 2), Tile(64, 64, 8, 2), Tile(16, 64, 4, 3)),
        "sm_100": (Tile(128, 64, 8, 2), Tile(64, 64, 8, 2), Tile(16, 64, 4, 3)),
        "gfx942": (_MIDDLE, _THIN),
    },
    ("forward", 2, 256): {
        "sm_80": (_MIDDLE, _THIN),
        "sm_90": (Tile(64, 64, 8, 2), _MIDDLE, _THIN),
        "sm_100": (Tile(64, 64, 8, 2), _MIDDLE, _THIN),
        "gfx942": (_MIDDLE, _THIN),
    },
    ("forward", 4, 64): {
        "sm_80": (_MIDDLE, _THIN),
        "sm_90": (_ABREAST, _MIDDLE, _THIN),
        "sm_100": (_ABREAST, _MIDDLE, _THIN),
        "gfx942": (_MIDDLE, _THIN),
    },
    ("forward", 4, 128): {
        "sm_80": (_FLAT, _THIN),
        "sm_90": (_MIDDLE, _THIN),
        "sm_100": (_FLAT, _THIN),
        "gfx942": (_THIN,),
    },
    ("backward", 2, 64): {
        "sm_80": (_MIDDLE, _THIN),
        "sm_90": (_ABREAST, _MIDDLE, _THIN),
        "sm_100": (_ABREAST, _MIDDLE, _THIN),
        "gfx942": (_FLAT, _THIN),
    },
    ("backward", 2, 128): {
        "sm_80": (_MIDDLE, _THIN),
        "sm_90": (_ABREAST, _MIDDLE, _THIN),
        "sm_100": (_ABREAST, _MIDDLE, _THIN),
        "gfx942": (_FLAT, _THIN),
    },
    ("backward", 2, 256): {
        "sm_80": (_FLAT, _THIN),
        "sm_90": (_FLAT, _THIN),
        "sm_100": (_FLAT, _THIN),
        "gfx942": (_THIN,),
    },
    ("backward", 4, 64): {
        "sm_80": (_FLAT, _THIN),
        "sm_90": (Tile(32, 32, 4, 2), _THIN),
        "sm_100": (_THIN,),
        "gfx942": (_THIN,),
    },
    ("backward", 4, 128): {
        "sm_80": (_THIN,),
        "sm_90": (_FLAT, _THIN),
        "sm_100": (_FLAT, _THIN),
        "gfx942": (_THIN,),
    },
    ("weights", 2, 64): {
        "sm_80": (_FLAT,),
        "sm_90": (Tile(32, 64, 8, 2),),
        "sm_100": (Tile(32, 64, 8, 2),),
        "gfx942": (_THIN,),
    },
    ("weights", 2, 128): {
        "sm_80": (_FLAT,),
        "sm_90": (Tile(32, 64, 8, 2),),
        "sm_100": (Tile(32, 64, 8, 2),),
        "gfx942": (_THINNEST,),
    },
    ("weights", 2, 256): {
        "sm_80": (Tile(16, 32, 8, 2),),
        "sm_90": (Tile(16, 32, 8, 2),),
        "sm_100": (Tile(16, 32, 8, 2),),
        "gfx942": (_THINNEST,),
    },
    ("weights", 4, 64): {
        "sm_80": (_FLAT,),
        "sm_90": (Tile(32, 32, 4, 2),),
        "sm_100": (_FLAT,),
        "gfx942": (_THINNEST,),
    },
    ("weights", 4, 128): {
        "sm_80": (_THIN,),
        "sm_90": (_FLAT,),
        "sm_100": (_FLAT,),
        "gfx942": (_THINNEST,),
    },
}
# The wide form's products walk along the width: one tile serves any.
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
    """Tiles of a fused kernel, from the largest to the smallest."""
    return _TILES[kernel, element_size, max(64, width)][_known(family)]


def wide_tile(kernel: str, element_size: int, family: str | None) -> Tile:
    """The tile of a kernel of the wide form."""
    return _WIDE_TILES[kernel, element_size][_known(family)]


def _known(family: str | None) -> str:
    assert family is not None, "a chip without tiles is refused before"
    return family
