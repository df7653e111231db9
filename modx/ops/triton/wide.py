"""Launch the wide kernels, for all other sizes.

The hidden layer of a span goes through memory. The kernels fuse the matmuls that feed it; cuBLAS runs all others.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from .gradients import Gradients, Needs, matmul
from .kernels.hidden import hidden_backward_kernel, hidden_kernel
from .launch import Launch, count_tiles
from .spans import Span
from .tiles import Tile, wide_tile

BLOCK_BYTES = 128  # bytes of a row per step of a matmul


def forward(launch: Launch, keep: bool, least_memory: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Compute both outputs of eq. 4, and the preactivations (T, (P + S) H), which have no rows unless ``keep``."""
    x, router_weights, w1, b1, w2, b2 = launch.mixture.tensors
    private, shared = launch.new_outputs()
    preact = x.new_empty(launch.num_tokens if keep else 0, launch.hidden_size)
    for span in launch.hidden_spans(1, least_memory):
        weights = span.of(router_weights)
        hidden = x.new_empty(span.stop - span.start, launch.hidden_size)
        tile, num_tiles = _plan("hidden", launch, span)
        blocks = launch.mixture.experts_per_token * triton.cdiv(launch.hidden_dim, tile.block_h)
        hidden_kernel[(num_tiles * blocks,)](
            span.of(x),
            weights,
            w1,
            b1,
            span.of(preact) if keep else None,
            hidden,
            **_arguments(launch, span, tile, num_tiles),
        )
        for bank in launch.banks(span, private, shared):
            bias = b2[bank.experts].float()
            bias = bias.sum(0, keepdim=True) if weights is None else weights[bank.rows, bank.columns].float() @ bias
            down = w2[bank.experts].flatten(0, 1)
            torch.addmm(bias.to(hidden.dtype), hidden[bank.rows, bank.hidden], down, out=bank.output)
    return private, shared, preact


def backward(
    launch: Launch, preact: Tensor | None, d_private: Tensor, d_shared: Tensor, needs: Needs, least_memory: bool
) -> Gradients:
    """Compute the gradients in ``needs``; without saved preactivations, the kernel recomputes them."""
    x, router_weights, w1, b1, w2, b2 = launch.mixture.tensors
    experts_per_token = launch.mixture.experts_per_token
    gradients = Gradients(launch, needs)
    for span in launch.hidden_spans(2, least_memory):
        if needs.x or needs.router_weights or needs.hidden:
            d_x, d_router_weights = span.of(gradients.x), span.of(gradients.router_weights)
            tile, num_tiles = _plan("hidden_backward", launch, span)
            blocks = triton.cdiv(launch.hidden_dim, tile.block_h)
            hidden_grad = x.new_empty(span.stop - span.start, launch.hidden_size)
            hidden = torch.empty_like(hidden_grad) if needs.w2 else None
            parts = None
            if d_router_weights is not None:
                parts = x.new_empty(len(hidden_grad), experts_per_token, blocks, dtype=torch.float32)
            hidden_backward_kernel[(num_tiles * experts_per_token * blocks,)](
                span.of(d_private),
                span.of(d_shared),
                span.of(x),
                span.of(router_weights),
                w1,
                b1,
                w2,
                span.of(preact),
                hidden_grad,
                hidden,
                parts,
                D_OUT=launch.out_dim,
                **_arguments(launch, span, tile, num_tiles),
            )
            if d_x is not None:
                for bank in launch.banks(span, d_private, d_shared):
                    part, up = hidden_grad[bank.rows, bank.hidden], w1[bank.experts].flatten(0, 1)
                    if bank.is_shared and launch.mixture.num_private:
                        d_x.addmm_(part, up)
                    else:
                        torch.mm(part, up, out=d_x[bank.rows])
            if d_router_weights is not None and parts is not None:
                for bank in launch.banks(span, d_private, d_shared):
                    bias = matmul(bank.output, b2[bank.experts].to(x.dtype).T)
                    d_router_weights[bank.rows, bank.columns] = parts[bank.rows, bank.columns].sum(-1) + bias
            gradients.add_hidden(span, hidden_grad if needs.w1 or needs.b1 else None, hidden, d_private, d_shared)
        if needs.b2:
            gradients.add_output_bias(span, d_private, d_shared)
    return gradients


def _plan(kernel: str, launch: Launch, span: Span) -> tuple[Tile, int]:
    tile = wide_tile(kernel, launch.element_size, launch.arch.family)
    return tile, count_tiles(span, tile.block_t)


def _arguments(launch: Launch, span: Span, tile: Tile, num_tiles: int) -> dict[str, Any]:
    block_d = BLOCK_BYTES // launch.element_size
    return launch.arguments(span) | tile.options() | {"num_tiles": num_tiles, "BLOCK_D": block_d}
