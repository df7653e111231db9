"""The fused backward pass for tokens and router weights, which recomputes the hidden layer tile by tile."""

import triton
import triton.language as tl

from .activations import activate_with_derivative
from .groups import SIZES, find_rows
from .memory import load_columns, load_rows, load_vector, store_rows


@triton.jit(do_not_specialize=SIZES)
def backward_kernel(
    d_private,
    d_shared,
    x,
    router_weights,
    w1,
    b1,
    w2,
    b2,
    d_x,
    d_router_weights,
    hidden_grad,
    hidden,
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
    SPLITS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    """Compute the gradients of a tile of tokens and its router weights, except those whose pointer is None.

    ``hidden_grad`` and ``hidden``, (T, (P + S) H), receive dL/dz and the weighted activations, for the weights'
    gradients. With SPLITS > 1, each program processes its share of every expert's hidden units and writes float32
    gradients ``stride_split`` elements after those of the previous split. ``sum_splits_kernel`` then sums them.
    """
    ends = (end0, end1, end2, end3, end4, end5, end6, end7)
    group, first, limit = find_rows(tl.program_id(0), ends, NUM_GROUPS, BLOCK_T)
    split = tl.program_id(2)
    rows = tl.arange(0, BLOCK_T)
    exist = rows < limit - first
    first = first.to(tl.int64)
    behind = split.to(tl.int64) * stride_split
    inputs = load_rows(x + first * D_IN, rows, exist, D_IN, BLOCK_I)
    if router_weights is not None:
        router_weights += first * (P + S)
    if d_router_weights is not None:
        d_router_weights += behind + first * (P + S)
    if hidden_grad is not None:
        hidden_grad += first * ((P + S) * H)
    if hidden is not None:
        hidden += first * ((P + S) * H)
    gradient = tl.zeros((BLOCK_T, BLOCK_I), tl.float32)
    if P > 0:
        gradient = _backward_experts(
            gradient, d_private + first * D_OUT, inputs, router_weights, w1, b1, w2, b2,
            d_router_weights, hidden_grad, hidden, rows, exist, first_private + group * P, split, d_x is not None,
            0, P, P + S, D_IN, H, D_OUT, ACTIVATION, EXACT, PRECISION, SPLITS, BLOCK_T, BLOCK_H, BLOCK_I, BLOCK_O,
        )  # fmt: skip
    if S > 0:
        gradient = _backward_experts(
            gradient, d_shared + first * D_OUT, inputs, router_weights, w1, b1, w2, b2,
            d_router_weights, hidden_grad, hidden, rows, exist, first_shared, split, d_x is not None,
            P, S, P + S, D_IN, H, D_OUT, ACTIVATION, EXACT, PRECISION, SPLITS, BLOCK_T, BLOCK_H, BLOCK_I, BLOCK_O,
        )  # fmt: skip
    if d_x is not None:
        store_rows(d_x + behind + first * D_IN, rows, exist, gradient, D_IN, BLOCK_I)


@triton.jit
def _backward_experts(
    gradient,
    d_out,
    inputs,
    router_weights,
    w1,
    b1,
    w2,
    b2,
    d_router_weights,
    hidden_grad,
    hidden,
    rows,
    exist,
    expert,
    split,
    NEEDS_INPUT: tl.constexpr,
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
    """Add the gradient through COUNT experts, starting at ``expert``; their router weights start at column FIRST."""
    outputs = tl.arange(0, BLOCK_O)
    units = tl.arange(0, BLOCK_H)
    COLUMNS: tl.constexpr = triton.next_power_of_2(COUNT)
    columns = tl.arange(0, COLUMNS)
    BLOCKS: tl.constexpr = (H + BLOCK_H * SPLITS - 1) // (BLOCK_H * SPLITS)
    EVEN: tl.constexpr = H % (BLOCK_H * SPLITS) == 0
    d_mixed = load_rows(d_out, rows, exist, D_OUT, BLOCK_O)
    d_weights = tl.zeros((BLOCK_T, COLUMNS), tl.float32)
    for step in range(COUNT * BLOCKS):
        index = step // BLOCKS
        unit = (split * BLOCKS + step % BLOCKS) * BLOCK_H
        real = units < H - unit
        place = (expert + index).to(tl.int64) * H + unit
        up = load_rows(w1 + place * D_IN, units, real, D_IN, BLOCK_I, EVEN)
        z = tl.dot(inputs, tl.trans(up), input_precision=PRECISION)
        z += load_vector(b1 + place + units, real, EVEN)[None, :]
        down = load_columns(w2 + place * D_OUT, units, real, D_OUT, BLOCK_O, EVEN)
        d_a = tl.dot(d_mixed, down, input_precision=PRECISION)
        a, slope = activate_with_derivative(z, ACTIVATION, EXACT)
        if d_router_weights is not None:
            d_weights += tl.where(columns[None, :] == index, tl.sum(a * d_a, 1)[:, None], 0.0)
        d_z = d_a * slope
        if router_weights is not None:
            weight = load_vector(router_weights + rows * K + FIRST + index, exist)[:, None]
            d_z *= weight
            a *= weight
        at = (FIRST + index) * H + unit + rows[:, None] * (K * H) + units[None, :]
        if hidden_grad is not None:
            tl.store(hidden_grad + at, d_z.to(up.dtype), mask=exist[:, None] & real[None, :])
        if hidden is not None:
            tl.store(hidden + at, a.to(up.dtype), mask=exist[:, None] & real[None, :])
        if NEEDS_INPUT:
            gradient = tl.dot(d_z.to(up.dtype), up, gradient, input_precision=PRECISION)
    if d_router_weights is not None:
        if split == 0:
            for index in range(COUNT):
                bias = load_vector(b2 + (expert + index).to(tl.int64) * D_OUT + outputs, outputs < D_OUT)
                along = tl.sum(d_mixed.to(tl.float32) * bias[None, :], 1)
                d_weights += tl.where(columns[None, :] == index, along[:, None], 0.0)
        tl.store(
            d_router_weights + rows[:, None] * K + FIRST + columns[None, :],
            d_weights.to(d_router_weights.dtype.element_ty),
            mask=exist[:, None] & (columns < COUNT)[None, :],
        )
    return gradient
