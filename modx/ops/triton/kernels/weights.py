"""Compute the gradients of the experts' weights without a stored hidden layer: every block of it is recomputed."""

import triton
import triton.language as tl

from .activations import activate_with_derivative
from .groups import SIZES, find_group
from .memory import load_columns, load_rows, load_vector, store_rows


@triton.jit(do_not_specialize=SIZES)
def weights_kernel(
    d_private,
    d_shared,
    x,
    router_weights,
    w1,
    b1,
    w2,
    d_w1,
    d_b1,
    d_w2,
    d_b2,
    end0,
    end1,
    end2,
    end3,
    end4,
    end5,
    end6,
    end7,
    num_tokens,
    first_private,
    first_shared,
    stride_split,
    NUM_GROUPS: tl.constexpr,
    P: tl.constexpr,
    S: tl.constexpr,
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
    """Compute the gradients of a block of one expert's hidden units over a share of its tokens.

    A gradient whose pointer is None is not computed. Each split writes ``stride_split`` elements after the last one.
    """
    BLOCKS: tl.constexpr = (H + BLOCK_H - 1) // BLOCK_H
    local = tl.program_id(0) // BLOCKS
    block = tl.program_id(0) % BLOCKS
    split = tl.program_id(1)
    ends = (end0, end1, end2, end3, end4, end5, end6, end7)
    is_private = local < NUM_GROUPS * P
    if P > 0:
        group = local // P
        first, limit = find_group(group, ends, NUM_GROUPS)
        column = local % P
        first = tl.where(is_private, first, 0)
        limit = tl.where(is_private, limit, num_tokens)
        column = tl.where(is_private, column, P + local - NUM_GROUPS * P)
    else:
        first, limit = 0, num_tokens
        column = local
    expert = tl.where(is_private, first_private + local, first_shared + local - NUM_GROUPS * P).to(tl.int64)
    d_out = d_shared
    if is_private:
        d_out = d_private

    units = tl.arange(0, BLOCK_H)
    real = units < H - block * BLOCK_H
    place = expert * H + block * BLOCK_H
    up = load_columns(w1 + place * D_IN, units, real, D_IN, BLOCK_I)
    down = load_columns(w2 + place * D_OUT, units, real, D_OUT, BLOCK_O)
    bias = load_vector(b1 + place + units, real)
    d_up = tl.zeros((BLOCK_H, BLOCK_I), tl.float32)
    d_down = tl.zeros((BLOCK_H, BLOCK_O), tl.float32)
    d_bias = tl.zeros((BLOCK_H,), tl.float32)
    d_out_bias = tl.zeros((BLOCK_O,), tl.float32)
    steps = tl.cdiv(tl.cdiv(limit - first, BLOCK_T), SPLITS)
    rows = tl.arange(0, BLOCK_T)
    begin = first + split * steps * BLOCK_T
    for step in range(steps):
        token = begin + step * BLOCK_T
        exist = rows < limit - token
        token = token.to(tl.int64)
        inputs = load_rows(x + token * D_IN, rows, exist, D_IN, BLOCK_I)
        d_mixed = load_rows(d_out + token * D_OUT, rows, exist, D_OUT, BLOCK_O)
        z = tl.dot(inputs, up, input_precision=PRECISION) + bias[None, :]
        a, slope = activate_with_derivative(z, ACTIVATION, EXACT)
        if router_weights is not None:
            weight = load_vector(router_weights + token * (P + S) + rows * (P + S) + column, exist)[:, None]
            a *= weight
            slope *= weight
        if d_b2 is not None:
            if block == 0:
                weighted = d_mixed.to(tl.float32)
                if router_weights is not None:
                    weighted *= weight
                d_out_bias += tl.sum(weighted, 0)
        if d_w2 is not None:
            d_down = tl.dot(tl.trans(a.to(inputs.dtype)), d_mixed, d_down, input_precision=PRECISION)
        if d_b1 is not None:
            d_z = tl.dot(d_mixed, down, input_precision=PRECISION) * slope
            d_bias += tl.sum(d_z, 0)
            d_up = tl.dot(tl.trans(d_z.to(inputs.dtype)), inputs, d_up, input_precision=PRECISION)

    behind = split.to(tl.int64) * stride_split
    if d_b1 is not None:
        store_rows(d_w1 + behind + place * D_IN, units, real, d_up, D_IN, BLOCK_I)
        tl.store(d_b1 + behind + place + units, d_bias.to(d_b1.dtype.element_ty), mask=real)
    if d_w2 is not None:
        store_rows(d_w2 + behind + place * D_OUT, units, real, d_down, D_OUT, BLOCK_O)
    if d_b2 is not None:
        if block == 0:
            outputs = tl.arange(0, BLOCK_O)
            at = d_b2 + behind + expert * D_OUT + outputs
            tl.store(at, d_out_bias.to(d_b2.dtype.element_ty), mask=outputs < D_OUT)
