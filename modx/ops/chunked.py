"""The expert mixture for many tokens, one expert after another; to save memory, in chunks of tokens.

Router weights scale the outputs y rather than the wider hidden layers a = act(z). For n tokens, z and a are ``(n, H)``
and y is ``(n, D_out)``.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .activations import ACTIVATIONS
from .composed import differentiable_gradients
from .mixture import Mixture

CHUNK_ELEMENTS = 2**20  # hidden elements per chunk, with least_memory


class Block(NamedTuple):
    """Tokens that run through one expert, and the column of their router weights."""

    tokens: slice
    expert: int
    column: int
    is_shared: bool
    is_first: bool  # the first block of its expert


class ChunkedMixture(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, keep: bool, least_memory: bool, *arguments: Any) -> tuple[Tensor, Tensor]:
        mixture = Mixture(*arguments)
        x, router_weights, w2 = mixture.x, mixture.router_weights, mixture.w2
        _, _, *asked = ctx.needs_input_grad
        needs: Any = Mixture(*asked)
        private, shared = (x.new_zeros(x.shape[0], w2.shape[2]) for _ in range(2))
        columns = None if router_weights is None else router_weights.to(x.dtype).t().contiguous()
        kept: list[Tensor | None] = []
        for block in _blocks(mixture, least_memory):
            z, a, y = _run_expert(block, mixture)
            total = (shared if block.is_shared else private)[block.tokens]
            if columns is None:
                total.add_(y)
            else:
                total.addcmul_(y, columns[block.column, block.tokens, None])
            if keep:
                kept += [
                    z if needs.x or needs.w1 or needs.b1 else None,
                    a if needs.w2 else None,
                    y if needs.router_weights else None,
                ]
        ctx.layout, ctx.keep, ctx.least_memory = mixture.layout, keep, least_memory
        if any(asked):
            ctx.save_for_backward(*mixture.tensors, *kept)
        return private, shared

    @staticmethod
    def backward(ctx: Any, d_private: Tensor, d_shared: Tensor) -> tuple[Tensor | None, ...]:
        # read once: activation checkpointing hands out each recomputed tensor only once
        x, router_weights, w1, b1, w2, b2, *saved = ctx.saved_tensors
        mixture = Mixture(x, router_weights, w1, b1, w2, b2, *ctx.layout)
        _, _, *asked = ctx.needs_input_grad
        needs: Any = Mixture(*asked)
        if torch.is_grad_enabled():  # these gradients will be differentiated
            twice = differentiable_gradients(mixture, needs.tensors, (d_private, d_shared))
            return None, None, *twice, None, None, None, None
        kept = iter(saved)
        derive_ = ACTIVATIONS[mixture.activation].backward_
        columns = None if router_weights is None else router_weights.to(x.dtype).t().contiguous()
        # half-precision gradients of chunks are accumulated in float32
        wide = torch.promote_types(x.dtype, torch.float32) if ctx.least_memory else x.dtype
        d_columns = None if columns is None or not needs.router_weights else torch.empty_like(columns)
        dw1 = torch.empty_like(w1, dtype=wide) if needs.w1 else None
        dw2 = torch.empty_like(w2, dtype=wide) if needs.w2 else None
        dx = torch.zeros_like(x) if needs.x else None
        db1 = torch.zeros_like(b1, dtype=wide) if needs.b1 else None
        db2 = torch.zeros_like(b2, dtype=wide) if needs.b2 else None
        for block in _blocks(mixture, ctx.least_memory):
            z, a, y = (next(kept), next(kept), next(kept)) if ctx.keep else _run_expert(block, mixture)
            expert, tokens = block.expert, block.tokens
            grad = (d_shared if block.is_shared else d_private)[tokens]
            if d_columns is not None:
                torch.sum(y * grad, 1, out=d_columns[block.column, tokens])
            if columns is not None:
                grad = grad * columns[block.column, tokens, None]
            if db2 is not None:
                db2[expert].add_(grad.sum(0))
            if dw2 is not None:
                _add_product(dw2[expert], a.T, grad, block.is_first)
            if not (needs.x or needs.w1 or needs.b1):
                continue
            dz = derive_(grad @ w2[expert].T, z)
            if db1 is not None:
                db1[expert].add_(dz.sum(0))
            if dw1 is not None:
                _add_product(dw1[expert], dz.T, x[tokens], block.is_first)
            if dx is not None:
                dx[tokens].addmm_(dz, w1[expert])
        # the router weights may have a wider dtype than the other tensors
        found = (dx, None if d_columns is None else d_columns.t(), dw1, db1, dw2, db2)
        gradients = (
            None if d is None or like is None else d.to(like.dtype)
            for d, like in zip(found, mixture.tensors, strict=True)
        )
        return None, None, *gradients, None, None, None, None


def _blocks(mixture: Mixture, least_memory: bool) -> Iterator[Block]:
    num_tokens, num_private = len(mixture.x), mixture.num_private
    size = max(1, CHUNK_ELEMENTS // max(1, mixture.w1.shape[1])) if least_memory else max(1, num_tokens)
    for tokens, experts in mixture.groups():
        for k in range(num_private):
            for part in _split(tokens, size):
                yield Block(part, experts.start + k, k, False, part.start == tokens.start)
    for k in range(mixture.num_shared):
        for part in _split(slice(0, num_tokens), size):
            yield Block(part, mixture.first_shared + k, num_private + k, True, part.start == 0)


def _split(tokens: slice, size: int) -> Iterator[slice]:
    """Split tokens into slices of at most ``size``. No tokens give one empty slice, so that gradients become zeros."""
    for start in range(tokens.start, max(tokens.stop, tokens.start + 1), size):
        yield slice(start, min(start + size, tokens.stop))


def _add_product(total: Tensor, left: Tensor, right: Tensor, is_first: bool) -> None:
    if total.dtype == left.dtype:
        total.addmm_(left, right, beta=int(not is_first))
    elif is_first:
        total.copy_(left @ right)
    else:
        total.add_(left @ right)


def _run_expert(block: Block, mixture: Mixture) -> tuple[Tensor, Tensor, Tensor]:
    expert = block.expert
    z = torch.addmm(mixture.b1[expert], mixture.x[block.tokens], mixture.w1[expert].T)
    a = ACTIVATIONS[mixture.activation].function(z)
    return z, a, torch.addmm(mixture.b2[expert], a, mixture.w2[expert])
