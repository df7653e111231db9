"""Beyond a width of 256: the hidden layer of a span goes through memory, to matrix products of the vendor's."""

from typing import Any

import torch
import triton
from torch import Tensor

from .call import Call, count_tiles
from .gradients import Gradients, Needs
from .kernels.hidden import hidden_backward_kernel, hidden_kernel
from .products import product
from .spans import Span
from .tiles import Tile, wide_tile

BLOCK_BYTES = 128  # of a row that a step of a product takes


def forward(call: Call, keep: bool, least_memory: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Both outputs of eq. 4; `keep`: and the hidden layer before its activation, (T, (P + S) H), else nothing."""
    private, shared = call.new_outputs()
    size = call.experts_per_token * call.hidden_dim
    before = call.x.new_empty(call.x.shape[0] if keep else 0, size)
    for span in call.cut_hidden(1, least_memory):
        gates = span.of(call.gates)
        hidden = call.x.new_empty(span.stop - span.start, size)
        tile, num_tiles = _plan("hidden", call, span)
        blocks = call.experts_per_token * triton.cdiv(call.hidden_dim, tile.block_h)
        hidden_kernel[(num_tiles * blocks,)](
            span.of(call.x),
            gates,
            call.w1,
            call.b1,
            before[span.start : span.stop] if keep else None,
            hidden,
            **_arguments(call, span, tile, num_tiles),
        )
        for bank in call.banks(span, private, shared):
            bias = call.b2[bank.experts].float()
            bias = bias.sum(0, keepdim=True) if gates is None else gates[bank.rows, bank.gates].float() @ bias
            weight = call.w2[bank.experts].flatten(0, 1)
            torch.addmm(bias.to(hidden.dtype), hidden[bank.rows, bank.hidden], weight, out=bank.output)
    return private, shared, before


def backward(
    call: Call, before: Tensor | None, d_private: Tensor, d_shared: Tensor, needs: Needs, least_memory: bool
) -> Gradients:
    """The gradients that somebody needs, from `before` where it was kept."""
    gradients = Gradients(call, needs)
    size = call.experts_per_token * call.hidden_dim
    for span in call.cut_hidden(2, least_memory):
        if needs.x or needs.gates or needs.hidden:
            d_x, d_gates = span.of(gradients.x), span.of(gradients.gates)
            tile, num_tiles = _plan("hidden_backward", call, span)
            blocks = triton.cdiv(call.hidden_dim, tile.block_h)
            hidden_grad = call.x.new_empty(span.stop - span.start, size)
            hidden = torch.empty_like(hidden_grad) if needs.w2 else None
            parts = None
            if d_gates is not None:
                parts = call.x.new_empty(len(hidden_grad), call.experts_per_token, blocks, dtype=torch.float32)
            hidden_backward_kernel[(num_tiles * call.experts_per_token * blocks,)](
                span.of(d_private),
                span.of(d_shared),
                span.of(call.x),
                span.of(call.gates),
                call.w1,
                call.b1,
                call.w2,
                span.of(before),
                hidden_grad,
                hidden,
                parts,
                D_OUT=call.out_dim,
                **_arguments(call, span, tile, num_tiles),
            )
            if d_x is not None:
                for bank in call.banks(span, d_private, d_shared):
                    part, weight = hidden_grad[bank.rows, bank.hidden], call.w1[bank.experts].flatten(0, 1)
                    if bank.is_shared and call.num_private:
                        d_x.addmm_(part, weight)
                    else:
                        torch.mm(part, weight, out=d_x[bank.rows])
            if d_gates is not None and parts is not None:
                for bank in call.banks(span, d_private, d_shared):
                    bias = product(bank.output, call.b2[bank.experts].to(call.x.dtype).T)
                    d_gates[bank.rows, bank.gates] = parts[bank.rows, bank.gates].sum(-1) + bias
            gradients.add_hidden(span, hidden_grad if needs.w1 or needs.b1 else None, hidden, d_private, d_shared)
        if needs.b2:
            gradients.add_output_bias(span, d_private, d_shared)
    return gradients


def _plan(kernel: str, call: Call, span: Span) -> tuple[Tile, int]:
    tile = wide_tile(kernel, call.x.element_size(), call.chip.family)
    return tile, count_tiles(span, tile.block_t)


def _arguments(call: Call, span: Span, tile: Tile, num_tiles: int) -> dict[str, Any]:
    return (
        call.numbers(span)
        | call.constants
        | tile.options()
        | {"num_tiles": num_tiles, "BLOCK_D": BLOCK_BYTES // call.x.element_size()}
    )
