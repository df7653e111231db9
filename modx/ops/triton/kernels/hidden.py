"""The wide kernels, which write the hidden layer of a span to memory once; cuBLAS does the rest.

For D > 256, a fused tile would need more registers than a GPU has. It would not save time either, because the matmuls
are long enough to hide the memory traffic. The kernels fuse the activation, the router weights and their derivatives
into the matmuls that feed them.
"""

import triton
import triton.language as tl

from .activations import activate, activate_with_derivative
from .groups import SIZES, find_rows
from .memory import load_vector

# Number of token tiles that read the same weights at about the same time, so that they share them in the L2 cache.
TILES_ABREAST: tl.constexpr = tl.constexpr(8)


@triton.jit(do_not_specialize=SIZES)
def hidden_kernel(
    x,
    router_weights,
    w1,
    b1,
    preact,
    hidden,
    end0,
    end1,
    end2,
    end3,
    end4,
    end5,
    end6,
    end7,
    num_tiles,
    first_private,
    first_shared,
    NUM_GROUPS: tl.constexpr,
    P: tl.constexpr,
    S: tl.constexpr,
    D_IN: tl.constexpr,
    H: tl.constexpr,
    ACTIVATION: tl.constexpr,
    EXACT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Compute ``preact`` and the weighted activations ``hidden``, (T, (P + S) H), except those that are None."""
    BLOCKS: tl.constexpr = (H + BLOCK_H - 1) // BLOCK_H
    tile, block = _place(num_tiles, (P + S) * BLOCKS)
    ends = (end0, end1, end2, end3, end4, end5, end6, end7)
    group, first, limit = find_rows(tile, ends, NUM_GROUPS, BLOCK_T)
    rows = tl.arange(0, BLOCK_T)
    exist = rows < limit - first
    first = first.to(tl.int64)
    column = block // BLOCKS
    unit = (block % BLOCKS) * BLOCK_H
    units = tl.arange(0, BLOCK_H)
    real = units < H - unit
    expert = tl.where(column < P, first_private + group * P + column, first_shared + column - P)
    place = expert.to(tl.int64) * H + unit
    z = _matmul(
        x + first * D_IN, w1 + place * D_IN, rows, exist, units, real, D_IN, PRECISION, BLOCK_T, BLOCK_H, BLOCK_D
    )
    z += load_vector(b1 + place + units, real)[None, :]
    at = first * ((P + S) * H) + column * H + unit + rows[:, None] * ((P + S) * H) + units[None, :]
    mask = exist[:, None] & real[None, :]
    if preact is not None:
        tl.store(preact + at, z.to(preact.dtype.element_ty), mask=mask)
    if hidden is not None:
        a = activate(z, ACTIVATION, EXACT)
        if router_weights is not None:
            a *= load_vector(router_weights + first * (P + S) + rows * (P + S) + column, exist)[:, None]
        tl.store(hidden + at, a.to(hidden.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=SIZES)
def hidden_backward_kernel(
    d_private,
    d_shared,
    x,
    router_weights,
    w1,
    b1,
    w2,
    preact,
    hidden_grad,
    hidden,
    d_router_weight_parts,
    end0,
    end1,
    end2,
    end3,
    end4,
    end5,
    end6,
    end7,
    num_tiles,
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
    BLOCK_T: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Compute dL/dz, the weighted activations and each block's share of the router weights' gradients.

    The first two are (T, (P + S) H), the last is (T, (P + S) blocks). If ``preact`` is None, it is recomputed from the
    tokens.
    """
    BLOCKS: tl.constexpr = (H + BLOCK_H - 1) // BLOCK_H
    tile, block = _place(num_tiles, (P + S) * BLOCKS)
    ends = (end0, end1, end2, end3, end4, end5, end6, end7)
    group, first, limit = find_rows(tile, ends, NUM_GROUPS, BLOCK_T)
    rows = tl.arange(0, BLOCK_T)
    exist = rows < limit - first
    first = first.to(tl.int64)
    column = block // BLOCKS
    unit = (block % BLOCKS) * BLOCK_H
    units = tl.arange(0, BLOCK_H)
    real = units < H - unit
    expert = tl.where(column < P, first_private + group * P + column, first_shared + column - P)
    place = expert.to(tl.int64) * H + unit
    at = first * ((P + S) * H) + column * H + unit + rows[:, None] * ((P + S) * H) + units[None, :]
    mask = exist[:, None] & real[None, :]
    if preact is not None:
        z = tl.load(preact + at, mask=mask, other=0.0).to(tl.float32)
    else:
        z = _matmul(
            x + first * D_IN, w1 + place * D_IN, rows, exist, units, real, D_IN, PRECISION, BLOCK_T, BLOCK_H, BLOCK_D
        )
        z += load_vector(b1 + place + units, real)[None, :]
    d_out = d_shared
    if column < P:
        d_out = d_private
    d_a = _matmul(
        d_out + first * D_OUT, w2 + place * D_OUT, rows, exist, units, real, D_OUT, PRECISION, BLOCK_T, BLOCK_H, BLOCK_D
    )
    a, slope = activate_with_derivative(z, ACTIVATION, EXACT)
    if d_router_weight_parts is not None:
        tl.store(
            d_router_weight_parts + first * ((P + S) * BLOCKS) + rows * ((P + S) * BLOCKS) + block,
            tl.sum(a * d_a, 1),
            mask=exist,
        )
    d_z = d_a * slope
    if router_weights is not None:
        weight = load_vector(router_weights + first * (P + S) + rows * (P + S) + column, exist)[:, None]
        d_z *= weight
        a *= weight
    tl.store(hidden_grad + at, d_z.to(hidden_grad.dtype.element_ty), mask=mask)
    if hidden is not None:
        tl.store(hidden + at, a.to(hidden.dtype.element_ty), mask=mask)


@triton.jit
def _place(num_tiles, blocks):
    """Return a program's tile of tokens and block of hidden units."""
    abreast = TILES_ABREAST * blocks
    above = tl.program_id(0) // abreast * TILES_ABREAST
    height = tl.minimum(num_tiles - above, TILES_ABREAST)
    inside = tl.program_id(0) % abreast
    return above + inside % height, inside // height


@triton.jit
def _matmul(
    left,
    right,
    rows,
    exist,
    units,
    real,
    D: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Multiply rows ``rows`` of ``left`` by rows ``units`` of ``right``, each of D elements."""
    total = tl.zeros((BLOCK_T, BLOCK_H), tl.float32)
    for start in range(0, D, BLOCK_D):
        features = start + tl.arange(0, BLOCK_D)
        left_at = left + rows[:, None] * D + features[None, :]
        right_at = right + units[None, :] * D + features[:, None]
        if D % BLOCK_D == 0:
            tokens = tl.load(left_at, mask=exist[:, None], other=0.0)
            weights = tl.load(right_at, mask=real[None, :], other=0.0)
        else:
            some = features < D
            tokens = tl.load(left_at, mask=exist[:, None] & some[None, :], other=0.0)
            weights = tl.load(right_at, mask=real[None, :] & some[:, None], other=0.0)
        total = tl.dot(tokens, weights, total, input_precision=PRECISION)
    return total
