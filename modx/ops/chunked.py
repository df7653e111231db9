"""The expert mixture for many tokens, one expert after the other, or for the least memory, by chunks of tokens.

Gates scale the outputs y, not the wider hidden layers a = act(z). For n tokens: z, a ``(n, H)``, y ``(n, D_out)``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .activations import ACTIVATIONS, BACKWARD_
from .wide import differentiable_gradients

CHUNK_ELEMENTS = 2**20  # hidden elements that exist at a time when memory counts most


@dataclass(frozen=True)
class Block:
    """Tokens that go through one expert, and their gate's column."""

    tokens: slice
    expert: int
    gate: int
    output: int  # 0: private, 1: shared
    is_first: bool  # of its expert's blocks


@dataclass(frozen=True)
class Plan:
    group_sizes: list[int]
    num_private: int
    num_shared: int
    activation: str
    keep: bool  # the hidden layer, for a backward pass
    least_memory: bool

    def blocks(self, hidden_dim: int) -> Iterator[Block]:
        start = 0
        for group, size in enumerate(self.group_sizes):
            for k in range(self.num_private):
                yield from self._cut(start, size, group * self.num_private + k, k, 0, hidden_dim)
            start += size
        for k in range(self.num_shared):
            expert = len(self.group_sizes) * self.num_private + k
            yield from self._cut(0, start, expert, self.num_private + k, 1, hidden_dim)

    def _cut(self, start: int, size: int, expert: int, gate: int, output: int, hidden_dim: int) -> Iterator[Block]:
        rows = max(1, CHUNK_ELEMENTS // max(1, hidden_dim) if self.least_memory else size)
        for at in range(0, max(size, 1), rows):  # an empty group has a block too, which gives its experts their zeros
            tokens = slice(start + at, start + min(at + rows, size))
            yield Block(tokens, expert, gate, output, at == 0)


class ExpertMixture(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, *inputs: Any) -> tuple[Tensor, Tensor]:
        x, gates, w1, b1, w2, b2 = inputs
        need_x, need_gates, need_w1, need_b1, need_w2, _ = ctx.needs_input_grad[1:]
        private, shared = (x.new_zeros(x.shape[0], w2.shape[2]) for _ in range(2))
        columns = None if gates is None else gates.to(x.dtype).t().contiguous()
        kept: list[Tensor | None] = []
        for block in plan.blocks(w1.shape[1]):
            z, a, y = _run_expert(block, plan.activation, x, w1, b1, w2, b2)
            total = (private, shared)[block.output][block.tokens]
            if columns is None:
                total.add_(y)
            else:
                total.addcmul_(y, columns[block.gate, block.tokens, None])
            if plan.keep:
                kept += [
                    z if need_x or need_w1 or need_b1 else None,
                    a if need_w2 else None,
                    y if need_gates else None,
                ]
        ctx.plan = plan
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*inputs, *kept)
        return private, shared

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plan, needs = ctx.plan, ctx.needs_input_grad[1:]
        inputs, kept = ctx.saved_tensors[:6], ctx.saved_tensors[6:]
        if torch.is_grad_enabled():  # someone will differentiate these gradients
            sizes = plan.group_sizes, plan.num_private, plan.num_shared, plan.activation
            return None, *differentiable_gradients(inputs, *sizes, needs, grads)
        x, gates, w1, b1, w2, b2 = inputs
        need_x, need_gates, need_w1, need_b1, need_w2, need_b2 = needs
        columns = None if gates is None else gates.to(x.dtype).t().contiguous()
        # sums over chunks are in float32 where a chunk's part is in half precision
        wide = torch.promote_types(x.dtype, torch.float32) if plan.least_memory else x.dtype
        dgates = None if columns is None or not need_gates else torch.empty_like(columns)
        dw1, dw2 = (
            torch.empty_like(part, dtype=wide) if need else None
            for part, need in zip((w1, w2), (need_w1, need_w2), strict=True)
        )
        dx, db1, db2 = (
            torch.zeros_like(part, dtype=dtype) if need else None
            for part, dtype, need in zip((x, b1, b2), (x.dtype, wide, wide), (need_x, need_b1, need_b2), strict=True)
        )
        for index, block in enumerate(plan.blocks(w1.shape[1])):
            if not plan.keep:
                z, a, y = _run_expert(block, plan.activation, x, w1, b1, w2, b2)
            else:
                z, a, y = kept[3 * index : 3 * index + 3]
            expert, tokens = block.expert, block.tokens
            grad = grads[block.output][tokens]
            if dgates is not None:
                torch.sum(y * grad, 1, out=dgates[block.gate, tokens])
            if columns is not None:
                grad = grad * columns[block.gate, tokens, None]
            if db2 is not None:
                db2[expert].add_(grad.sum(0))
            if dw2 is not None:
                _add_product(dw2[expert], a.T, grad, block.is_first)
            if not (need_x or need_w1 or need_b1):
                continue
            dz = BACKWARD_[plan.activation](grad @ w2[expert].T, z)
            if db1 is not None:
                db1[expert].add_(dz.sum(0))
            if dw1 is not None:
                _add_product(dw1[expert], dz.T, x[tokens], block.is_first)
            if dx is not None:
                dx[tokens].addmm_(dz, w1[expert])
        # the gates may be of a wider dtype than the rest
        found = (dx, None if dgates is None else dgates.t(), dw1, db1, dw2, db2)
        return None, *(None if d is None else d.to(like.dtype) for d, like in zip(found, inputs, strict=True))


def _add_product(total: Tensor, left: Tensor, right: Tensor, is_first: bool) -> None:
    if total.dtype == left.dtype:
        total.addmm_(left, right, beta=int(not is_first))
    elif is_first:
        total.copy_(left @ right)
    else:
        total.add_(left @ right)


def _run_expert(
    block: Block, activation: str, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    expert = block.expert
    z = torch.addmm(b1[expert], x[block.tokens], w1[expert].T)
    a = ACTIVATIONS[activation](z)
    return z, a, torch.addmm(b2[expert], a, w2[expert])
