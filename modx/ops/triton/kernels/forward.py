"""The fused forward pass, in which the hidden layer never leaves the chip."""

import triton
import triton.language as tl

from .activations import activate
from .groups import SIZES, find_rows
from .memory import load_columns, load_rows, load_vector, store_rows


@triton.jit(do_not_specialize=SIZES)
def forward_kernel(
    x,
    router_weights,
    w1,
    b1,
    w2,
    b2,
    private,
    shared,
    end0,
    end1,
    end2,
    end3,
    end4,
    end5,
    end6,
    end7,
    stride_split,
    first_private,
    first_shared,
    NUM_GROUPS: tl.constexpr,
    P: tl.constexpr,
    S: tl.constexpr,
    D_IN: tl.constexpr,
    H: tl.constexpr,
    D_OUT: tl.constexpr,
    ACTIVATION: tl.constexpr,
    EXACT: tl.constexpr,
    PRECISION: tl.constexpr,
    BANKS: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """Compute both outputs of a tile of tokens, in one program (BANKS = 1) or one program per bank (BANKS = 2).

    With SPLITS > 1, each program sums over its share of every expert's hidden units and writes float32 outputs
    ``stride_split`` elements after those of the previous split. ``sum_splits_kernel`` then sums them.
    """
    ends = (end0, end1, end2, end3, end4, end5, end6, end7)
    group, first, limit = find_rows(tl.program_id(0), ends, NUM_GROUPS, BLOCK_T)
    bank = tl.program_id(1)
    split = tl.program_id(2)
    rows = tl.arange(0, BLOCK_T)
    exist = rows < limit - first
    first = first.to(tl.int64)
    inputs = load_rows(x + first * D_IN, rows, exist, D_IN, BLOCK_I)
    if router_weights is not None:
        router_weights += first * (P + S)
    target = split.to(tl.int64) * stride_split + first * D_OUT
    if P > 0:
        if (BANKS == 1) | (bank == 0):
            mixed = _sum_experts(
                inputs, router_weights, w1, b1, w2, b2, rows, exist, first_private + group * P, split,
                0, P, P + S, D_IN, H, D_OUT, ACTIVATION, EXACT, PRECISION, SPLITS, BLOCK_T, BLOCK_H, BLOCK_I, BLOCK_O,
            )  # fmt: skip
            store_rows(private + target, rows, exist, mixed, D_OUT, BLOCK_O)
    if S > 0:
        if (BANKS == 1) | (bank == 1):
            mixed = _sum_experts(
                inputs, router_weights, w1, b1, w2, b2, rows, exist, first_shared, split,
                P, S, P + S, D_IN, H, D_OUT, ACTIVATION, EXACT, PRECISION, SPLITS, BLOCK_T, BLOCK_H, BLOCK_I, BLOCK_O,
            )  # fmt: skip
            store_rows(shared + target, rows, exist, mixed, D_OUT, BLOCK_O)


@triton.jit
def _sum_experts(
    inputs,
    router_weights,
    w1,
    b1,
    w2,
    b2,
    rows,
    exist,
    expert,
    split,
    FIRST: tl.constexpr,
    COUNT: tl.constexpr,
    K: tl.constexpr,
    D_IN: tl.constexpr,
    H: tl.constexpr,
    D_OUT: tl.constexpr,
    ACTIVATION: tl.constexpr,
    EXACT: tl.constexpr,
    PRECISION: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """Sum COUNT experts by weight, starting at ``expert``; their router weights start at column FIRST."""
    outputs = tl.arange(0, BLOCK_O)
    units = tl.arange(0, BLOCK_H)
    BLOCKS: tl.constexpr = (H + BLOCK_H * SPLITS - 1) // (BLOCK_H * SPLITS)  # hidden blocks per expert and split
    EVEN: tl.constexpr = H % (BLOCK_H * SPLITS) == 0
    mixed = tl.zeros((BLOCK_T, BLOCK_O), tl.float32)
    for step in range(COUNT * BLOCKS):  # a single flat loop, so that the pipeline does not drain between experts
        index = step // BLOCKS
        hidden = (split * BLOCKS + step % BLOCKS) * BLOCK_H
        real = units < H - hidden
        place = (expert + index).to(tl.int64) * H + hidden
        up = load_columns(w1 + place * D_IN, units, real, D_IN, BLOCK_I, EVEN)
        z = tl.dot(inputs, up, input_precision=PRECISION)
        z += load_vector(b1 + place + units, real, EVEN)[None, :]
        a = activate(z, ACTIVATION, EXACT)  # 0 for units that do not exist
        if router_weights is not None:
            a *= load_vector(router_weights + rows * K + FIRST + index, exist)[:, None]
        down = load_rows(w2 + place * D_OUT, units, real, D_OUT, BLOCK_O, EVEN)
        mixed = tl.dot(a.to(down.dtype), down, mixed, input_precision=PRECISION)
    if split == 0:
        for index in range(COUNT):
            bias = load_vector(b2 + (expert + index).to(tl.int64) * D_OUT + outputs, outputs < D_OUT)[None, :]
            if router_weights is not None:
                bias *= load_vector(router_weights + rows * K + FIRST + index, exist)[:, None]
            mixed += bias
    return mixed
