"""Find the tokens of a program. Group ends are passed as plain numbers, so launches never wait for the device."""

import triton
import triton.language as tl

MAX_GROUPS = 8  # per launch; more groups take more launches
# Numbers that change from batch to batch: specializing on them would recompile the kernel for every new value. The
# ends are eight arguments because Triton (3.6 to 3.9) specializes on elements of a tuple even if told not to.
SIZES = [
    *(f"end{index}" for index in range(MAX_GROUPS)),
    "first_private",
    "first_shared",
    "num_tokens",
    "num_tiles",
    "stride_split",
]


@triton.jit
def find_rows(tile, ends, NUM_GROUPS: tl.constexpr, BLOCK_T: tl.constexpr):
    """Return a tile's group, its first token and the end of its group; no tile spans two groups."""
    group = tile * 0
    first = group
    limit = group
    start = 0
    tiles = 0
    for index in tl.static_range(NUM_GROUPS):
        end = ends[index]
        count = tl.cdiv(end - start, BLOCK_T)
        inside = (tile >= tiles) & (tile < tiles + count)
        group = tl.where(inside, index, group)
        first = tl.where(inside, start + (tile - tiles) * BLOCK_T, first)
        limit = tl.where(inside, end, limit)
        tiles += count
        start = end
    return group, first, limit


@triton.jit
def find_group(group, ends, NUM_GROUPS: tl.constexpr):
    """Return the first token of a group and its end."""
    first = group * 0
    limit = first
    start = 0
    for index in tl.static_range(NUM_GROUPS):
        end = ends[index]
        first = tl.where(group == index, start, first)
        limit = tl.where(group == index, end, limit)
        start = end
    return first, limit
